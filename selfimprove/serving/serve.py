"""`selfimprove serve`: the current policy of a run on loopback, until interrupted."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config import RunConfig
from ..errors import UserError
from ..memory import ResponseMemory
from ..models.conversation import shared_system
from ..models.policy import Policy
from ..run.folder import adapter_folder, saved_config
from .asked import ASKED, Asked
from .demonstrations import Demonstrations
from .worker import Context, Job, Worker

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
NEW_TOKENS = 256
"""Limit of an answer where neither the request nor the run has a higher one."""


def serve(folder: Path, *, port: int, recalling: bool, learning: bool) -> None:
    """Serve the current policy of the run in `folder` on loopback until interrupted.

    Args:
        folder: the run's folder.
        port: port to listen at; 0: any that is free.
        recalling: give the model demonstrations from the memory.
        learning: keep what is asked as prompts, in `asked.jsonl` of the folder.

    Raises:
        UserError: the port is taken, an extra is not installed, or the policy or its memory cannot be used.
    """
    with opened_server(folder, port=port, recalling=recalling, learning=learning) as (server, listening, _):
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


@contextmanager
def opened_server(
    folder: Path, *, port: int, recalling: bool = False, learning: bool = False
) -> "Iterator[tuple[uvicorn.Server, socket.socket, Worker]]":
    """Load the policy, start its worker, say what is served; yield the server, the socket to run it on, the worker."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UserError(f"serving needs {' and '.join(missing)}: pip install 'selfimprove[serve]'")
    import uvicorn

    from .app import Served, make_app

    config = saved_config(folder)
    with _listening(port) as listening:
        with ResponseMemory.open(folder / "memory.db") as memory:
            current, fingerprint, prompts = memory.current, memory.meta("model"), memory.own_prompts()
        policy = Policy.load(config.model, fingerprint)
        policy.use(adapter_folder(folder, current))
        asked = Asked(folder / ASKED, (prompt.id for prompt in prompts)) if learning else None
        served = Served(
            name=folder.resolve().name,
            policy=current,
            fingerprint=f"{current}-{(fingerprint or '')[:12]}",
            sampling=config.sample.sampling(max(NEW_TOKENS, config.sample.max_new_tokens)),
            system=shared_system(prompts),
            since=int(time.time()),
        )
        worker = Worker(policy, lambda: _contexts(folder, config, policy, recalling, asked))
        worker.start()
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        click.echo(f"serving   {served.name}, policy {current}: {address}/v1   (Ctrl-C ends)")
        if served.system:
            click.echo("system    requests without a system message get that of the run's prompts")
        if recalling:
            click.echo("memory    each request is shown the model's own trusted answers to near prompts")
        if asked is not None:
            click.echo(f"learning  what is asked is stored in {asked.file}, as prompts for a next round")
        settings = uvicorn.Config(
            make_app(worker, served), log_level="warning", lifespan="off", timeout_graceful_shutdown=1
        )
        try:
            yield uvicorn.Server(settings), listening, worker
        finally:
            worker.stop()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise UserError(f"cannot listen at port {port} ({error.strerror}); another: --port {port + 1}") from None
        yield listening


def _contexts(
    folder: Path, config: RunConfig, policy: Policy, recalling: bool, asked: Asked | None
) -> Callable[[Job], Context]:
    """Open what a job's context is made from; called in the thread that uses it."""
    memory = ResponseMemory.open(folder / "memory.db")
    demonstrations = Demonstrations(memory, config, opened=policy.opens_thinking) if recalling else None

    def context(job: Job) -> Context:
        if asked is not None:
            policy.encode(job.messages)  # raises for turns that the template refuses
            if policy.fits(job.messages, config.sample.max_new_tokens):
                asked.add(job.messages)
        if demonstrations is None:
            return Context((job.messages,) * job.choices, None)
        limit = job.new_tokens or job.sampling.max_new_tokens
        planned = demonstrations.plan(job.messages, k=job.choices, seed=job.seed)
        shown = [r for r in planned if policy.fits(r.messages, limit)]
        if len(shown) < job.choices:
            return Context((job.messages,) * job.choices, ((),) * job.choices)
        return Context(tuple(r.messages for r in shown), tuple(r.parents for r in shown))

    return context
