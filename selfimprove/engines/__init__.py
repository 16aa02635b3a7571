"""Engines: generation and training on this device, an inference server or a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import RunConfig
    from .engine import Engine
    from .local import LocalEngine


def make_engine(config: RunConfig, local: LocalEngine, folder: Path) -> Engine:
    """Return the engine named by `config.engine`. The others use `local` too; `folder` is the run's, for logs.

    Raises:
        UserError: the engine cannot be used with this configuration.
    """
    if config.engine == "server":
        from .server import ServerEngine

        return ServerEngine(local, config.server, rank=config.train.rank, log_file=folder / "server.log")
    if config.engine == "ray":
        from .ray import RayEngine

        return RayEngine(local, config.model, config.ray)
    return local
