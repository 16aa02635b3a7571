"""Where generation and training happen. An engine has two verbs, both pure functions of their arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import RunConfig
    from .engine import Engine
    from .local import LocalEngine


def make_engine(config: RunConfig, local: LocalEngine, folder: Path) -> Engine:
    """Return the engine that `config.engine` names, built around the local one of a run in `folder`.

    Raises:
        UserError: it cannot be used as it is configured.
    """
    if config.engine == "server":
        from .server import ServerEngine

        return ServerEngine(local, config.server, rank=config.train.rank, log_file=folder / "server.log")
    if config.engine == "ray":
        from .ray import RayEngine

        return RayEngine(local, config.model, config.ray)
    return local
