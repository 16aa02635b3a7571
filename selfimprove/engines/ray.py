"""Generation by Ray actors that hold the model, and training as a Ray Train job.

Plain actors are used instead of Ray Data, because they keep the model loaded between stages and rounds. Ray restarts an
actor that dies and repeats its unit; the seeds are part of the unit, so the result is the same. Only the driver writes
to the memory. Adapters are sent as bytes through the object store, so the nodes need no shared folder.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config import ModelConfig
from ..config_engines import RayConfig
from ..errors import ConfigError, EngineError, UserError
from ..fsio import new_folder
from ..models.policy import ADAPTER_FILES, Policy
from ..training import TrainReport
from ..types import Generation, Unit
from .engine import OnStep, OnTokens, TrainingJob
from .local import LocalEngine
from .ray_worker import Files, TrainingOrder, Worker, train_on_rank

log = logging.getLogger(__name__)

AHEAD = 2
"""Units queued per actor: the current one and the next, so that no actor waits for the driver."""
RETRIES = 3
"""Repetitions of a unit or training after the death of its process; more deaths are an error."""
STORE_BYTES = 256 * 2**20
"""Size of the object store of a cluster started here; it holds adapters and texts."""


@dataclass
class _Actors:
    """The actors, the number of queued units of each, and the process id of each actor's last result."""

    actors: list[Any]
    loads: list[int] = field(default_factory=list)
    processes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loads = [0] * len(self.actors)


class RayEngine:
    """Generation by actors and training by Ray Train, on an existing cluster or on one that it starts."""

    def __init__(self, local: LocalEngine, model: ModelConfig, config: RayConfig) -> None:
        """Connect to the cluster at `config.address`, or start one on this machine if it is None.

        Raises:
            ConfigError: Ray is not installed.
            EngineError: there is no cluster at the address.
        """
        self._local = local
        self._config = config
        self._model = model.model_copy(update={"threads": config.cpus})
        self._actors: _Actors | None = None
        self._adapters: dict[str, Any] = {}
        self._joined = connect(config)

    def __str__(self) -> str:
        where = f"the cluster at {self._config.address}" if self._config.address else "a cluster of its own"
        return f"ray, {self._config.actors} actors and {self._config.trainers} trainers on {where}"

    # -- generation

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with its generations, in order; see `Engine.generate`. Units are computed by all actors.

        Raises:
            EngineError: a unit's actor died `RETRIES` + 1 times, or the actors cannot start.
        """
        finished: dict[int, tuple[Unit, list[Generation]]] = {}
        due = 0
        for number, unit, generations in self._in_any_order(units):
            if on_tokens is not None:
                on_tokens(sum(g.new_tokens for g in generations))
            finished[number] = unit, generations
            while due in finished:
                yield finished.pop(due)
                due += 1

    def _in_any_order(self, units: Iterable[Unit]) -> Iterator[tuple[int, Unit, list[Generation]]]:
        pending: dict[Any, tuple[int, int, Unit]] = {}
        try:
            for number, unit in enumerate(units):
                actors = self._started_actors()
                while min(actors.loads) == AHEAD:
                    yield self._next_finished(pending)
                actor = actors.loads.index(min(actors.loads))
                reference = actors.actors[actor].answer.remote(unit, self._adapter(unit.policy))
                pending[reference] = number, actor, unit
                actors.loads[actor] += 1
            while pending:
                yield self._next_finished(pending)
        finally:
            if pending:  # the caller has stopped: cancel them
                self._end_actors()

    def _next_finished(self, pending: dict[Any, tuple[int, int, Unit]]) -> tuple[int, Unit, list[Generation]]:
        import ray

        (reference, *_), _ = ray.wait(list(pending))
        number, actor, unit = pending[reference]
        process, generations = _get(reference, f"unit {unit.id}")
        del pending[reference]
        actors = self._started_actors()
        actors.loads[actor] -= 1
        before = actors.processes.setdefault(actor, process)
        if before != process:
            log.warning("actor %d (process %d) died; process %d took over with %s", actor, before, process, unit.id)
            actors.processes[actor] = process
        return number, unit, generations

    def _started_actors(self) -> _Actors:
        """Return the actors; start them if there are none."""
        if self._actors is None:
            import ray

            self._free_gpu()
            actor = ray.remote(
                num_cpus=self._config.cpus,
                num_gpus=self._config.gpus,
                max_restarts=-1,
                max_task_retries=RETRIES,
            )(Worker)
            arguments = (self._model, self._local.batch_size, self._local.policy.fingerprint)
            self._actors = _Actors([actor.remote(*arguments) for _ in range(self._config.actors)])
        return self._actors

    def _adapter(self, policy: str) -> Any:
        """Return an object store reference to the files of the policy's adapter; None for the base."""
        import ray

        folder = self._local.adapter_of(policy)
        if folder is None:
            return None
        if policy not in self._adapters:
            self._adapters = {policy: ray.put(read_adapter(folder))}  # adapters of earlier rounds are released
        return self._adapters[policy]

    # -- training

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train with `trainers` data-parallel ranks and write the adapter to `out`; see `Engine.train`.

        `on_step` is called once, after the last step. If a rank dies, the training starts again from its beginning.

        Raises:
            EngineError: the training failed `RETRIES` + 1 times, or with an error.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        self._end_actors()
        self._free_gpu()
        folder = self._local.adapter_of(job.start) if job.start else None
        start = None if folder is None else read_adapter(folder)
        fingerprint = self._local.policy.fingerprint
        order = TrainingOrder(job, self._model, fingerprint, start, shard=self._config.shard)
        with TemporaryDirectory() as storage:
            trainer = TorchTrainer(
                train_on_rank,
                train_loop_config={"order": order},
                scaling_config=ScalingConfig(
                    num_workers=self._config.trainers,
                    use_gpu=self._config.gpus > 0,
                    resources_per_worker={"CPU": self._config.cpus}
                    | ({"GPU": self._config.gpus} if self._config.gpus else {}),
                ),
                run_config=RunConfig(storage_path=storage, failure_config=FailureConfig(max_failures=RETRIES)),
            )
            try:
                files, report = trainer.fit().return_value
            except TrainingFailedError as error:
                raise EngineError(f"training failed on the cluster: {_last_line(error)}") from None
        with new_folder(out) as written:
            for name, content in files.items():
                (written / name).write_bytes(content)
        if on_step is not None:
            on_step(report.steps, report.steps, report.history[-1])
        return report

    # -- model and processes

    def model_here(self) -> Policy:
        """Return the model in this process. Actors on GPUs are ended first, since they may share its GPU."""
        if self._config.gpus:
            self._end_actors()
        return self._local.model_here()

    def close(self) -> None:
        """End the actors, and disconnect if this engine connected; a cluster started here ends."""
        import ray

        self._end_actors()
        if self._joined:
            ray.shutdown()

    def _free_gpu(self) -> None:
        """Free the weights in this process if the cluster may use its GPU."""
        if self._config.gpus:
            self._local.policy.release()

    def _end_actors(self) -> None:
        """End the actors and free their CPUs and GPUs."""
        import ray

        for actor in self._actors.actors if self._actors else ():
            ray.kill(actor)
        self._actors = None


def read_adapter(folder: Path) -> Files:
    """Return the contents of the files of a PEFT adapter, by file name."""
    return {name: (folder / name).read_bytes() for name in ADAPTER_FILES}


def connect(config: RayConfig) -> bool:
    """Connect this process to a cluster, or start one; return False if it was connected already.

    Raises:
        ConfigError: Ray is not installed.
        EngineError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError("engine ray needs Ray: pip install 'selfimprove[ray]'") from None
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": config.address}
    if config.address is None:
        cores = max(config.actors, config.trainers) * config.cpus
        options = {
            "address": "local",
            "num_cpus": cores,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError) as error:
        raise EngineError(f"no Ray cluster at ray.address {config.address!r}: {_last_line(error)}") from None
    return True


def _get(reference: Any, what: str) -> Any:
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    try:
        return ray.get(reference)
    except RayActorError as error:
        raise EngineError(
            f"{what}: its actor died {RETRIES + 1} times or could not start, the last time: {_last_line(error)}; "
            "it may be short of memory: lower sample.batch_size; what is committed is saved: add --resume"
        ) from None
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise EngineError(f"{what}: {error.cause}") from None
        raise


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
