"""A finished run, served in a thread of this process at a free port."""

import threading
import time
from contextlib import contextmanager

import pytest


@contextmanager
def serving(folder, **how):
    """Yield the address of a served run, its worker and its folder."""
    from selfimprove.serving import serve

    workers = []
    real = serve.Worker

    class Noted(real):
        def __init__(self, *args):
            super().__init__(*args)
            workers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "Worker", Noted)
        with serve.opened_server(folder, port=0, **how) as (server, listening):
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}", workers[0]
            finally:
                server.should_exit = True
                thread.join()
