"""Code of the processes of a Ray cluster: the generating actor and a rank of a training job."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..config import ModelConfig
from ..errors import ModelError
from ..models.loading import pick_dtype
from ..models.policy import ADAPTER_FILES, Policy
from ..training import TrainReport, train_adapter
from ..training.distributed import Ranks, device, shard
from ..types import Generation, Unit
from .engine import TrainingJob
from .local import LocalEngine, encode_examples

Files = dict[str, bytes]
"""Files of an adapter: contents by file name."""


class Worker:
    """Actor that holds the model and generates units one at a time with a `LocalEngine`."""

    def __init__(self, model: ModelConfig, batch_size: int, fingerprint: str) -> None:
        """Load the model.

        Raises:
            ModelError: the model on this node has another fingerprint.
        """
        policy = _load(model, fingerprint)
        self._adapters: dict[str, Path] = {}
        self._folder = TemporaryDirectory(prefix="selfimprove-")
        self._engine = LocalEngine(policy, self._adapters.get, batch_size)

    def answer(self, unit: Unit, adapter: Files | None) -> tuple[int, list[Generation]]:
        """Return the process id and the generations of the unit; `adapter` None is the base."""
        if adapter is not None and unit.policy not in self._adapters:
            self._adapters[unit.policy] = _write(adapter, Path(self._folder.name) / unit.policy)
        return os.getpid(), self._engine.answer(unit)


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """Argument of `train_on_rank`: job, model and its fingerprint, initial adapter, whether to shard (FSDP2).

    `start` is None for a new adapter.
    """

    job: TrainingJob
    model: ModelConfig
    fingerprint: str
    start: Files | None
    shard: bool


def train_on_rank(config: dict[str, Any]) -> tuple[Files, TrainReport]:
    """Train as one rank of a Ray Train job; return the adapter (empty except on rank 0) and the report."""
    from ray.train import get_context

    order: TrainingOrder = config["order"]
    job = order.job
    context = get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), lockstep=order.shard)
    policy = _load(to_shard(order.model, device()) if order.shard else order.model, order.fingerprint)
    if order.shard:
        shard(policy.model)
    with TemporaryDirectory(prefix="selfimprove-") as folder:
        out = Path(folder) / "adapter"
        report = train_adapter(
            policy.model,
            encode_examples(policy, job.examples),
            job.spec,
            seed=job.seed,
            out=out,
            start=None if order.start is None else _write(order.start, Path(folder) / "start"),
            pad_id=policy.pad_id,
            base_name=policy.config.path,
            base_revision=policy.config.commit,
            ranks=ranks,
        )
        return {name: (out / name).read_bytes() for name in ADAPTER_FILES if ranks.rank == 0}, report


def _load(model: ModelConfig, fingerprint: str) -> Policy:
    policy = Policy.load(model)
    if policy.fingerprint != fingerprint:
        raise ModelError(f"{model.path} is a different model here than on the driver; use one copy on all nodes")
    return policy


def to_shard(model: ModelConfig, kind: str) -> ModelConfig:
    """Return the settings to load a model for sharding: in main memory, in the dtype for devices of `kind`."""
    dtype = str(pick_dtype(model.dtype, torch.device(kind))).removeprefix("torch.")
    return model.model_copy(update={"device": "cpu", "dtype": dtype})


def _write(files: Files, folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
