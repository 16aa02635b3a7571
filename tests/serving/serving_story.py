"""A finished run, served in a thread of this process at a free port."""

import threading
import time
from contextlib import contextmanager


@contextmanager
def serving(folder, **how):
    """Yield the address of a served run and its worker."""
    from selfimprove.serving import serve

    with serve.opened_server(folder, port=0, **how) as (server, listening, worker):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", worker
        finally:
            server.should_exit = True
            thread.join()
