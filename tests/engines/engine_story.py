"""A server engine on a small unit of work, as the tests of servers need it."""

from contextlib import contextmanager
from pathlib import Path

from selfimprove.config_engines import ServerConfig
from selfimprove.engines.local import LocalEngine
from selfimprove.engines.server import ServerEngine
from selfimprove.types import BASE, Message, Origin, Request, Sampling, Stage, Unit


@contextmanager
def engine_at(url, policy, folder=Path("adapters"), **settings):
    settings = {"patience": 20, "timeout": 5} | settings
    local = LocalEngine(policy, lambda name: None if name == BASE else folder / name)
    engine = ServerEngine(local, ServerConfig(url=url, **settings), rank=4, log_file=folder / "server.log")
    try:
        yield engine
    finally:
        engine.close()


def a_unit(prompts=6, k=4, index=0, policy=BASE, prefix=""):
    requests = [
        Request(f"p{p}", Origin.SAMPLE, (Message("user", f"question {p}"),), 1000 * p + slot, prefix)
        for p in range(prompts)
        for slot in range(k)
    ]
    return Unit(1, Stage.SAMPLE, index, tuple(requests), Sampling(0.7, 50, 0.9, 32), policy)


def outcome(engine):
    try:
        return list(engine.generate([a_unit()]))
    except BaseException as error:
        return type(error).__name__
