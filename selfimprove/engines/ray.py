"""Generation and training on a Ray cluster: actors that hold the model, and a Ray Train job for each training.

Units go to plain actors, not through Ray Data: an actor then keeps its model from one stage and round to the next,
where a data set would start, and load, its actors anew each time. Ray restarts an actor that dies and runs its unit
again; as a unit's seeds are its own, the result is the same. The driver alone writes: adapters travel as bytes through
the object store, so nodes share no folder.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config import ModelConfig, RayConfig
from ..errors import ConfigError, EngineError, UserError
from ..fsio import new_folder
from ..models.policy import ADAPTER_FILES, Policy
from ..training import TrainReport
from ..types import Generation, Unit
from .engine import OnStep, OnTokens, TrainingJob
from .local import LocalEngine
from .ray_worker import Files, TrainingOrder, Worker, train_with_peers

log = logging.getLogger(__name__)

AHEAD = 2
"""Units at an actor: the one it computes and the next, so that it never waits for the driver."""
RETRIES = 3
"""Deaths of its actor that a unit survives: more means that the unit is what kills it."""
STORE_BYTES = 256 * 2**20
"""Object store of a cluster started here: adapters and texts, no more."""


@dataclass
class _Crew:
    """The actors, how many units each has, and the process that last answered for each."""

    actors: list[Any]
    loads: list[int] = field(default_factory=list)
    processes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loads = [0] * len(self.actors)


class RayEngine:
    """Maps units over actors and trains with Ray Train, in a cluster that it joins or starts."""

    def __init__(self, local: LocalEngine, model: ModelConfig, config: RayConfig) -> None:
        """Join the cluster at `config.address`, or start one on this machine.

        Raises:
            ConfigError: Ray is not installed.
            EngineError: there is no cluster at the address.
        """
        self._local = local
        self._config = config
        self._model = model.model_copy(update={"threads": config.cpus})
        self._crew: _Crew | None = None
        self._adapters: dict[str, Any] = {}
        self._joined = connect(config)

    def __str__(self) -> str:
        where = f"the cluster at {self._config.address}" if self._config.address else "a cluster of its own"
        return f"ray, {self._config.actors} actors and {self._config.trainers} trainers on {where}"

    # -- generation

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with its generations, in order; every actor is kept busy, whichever unit is the slowest.

        Raises:
            EngineError: a unit outlived no actor, or the actors cannot start.
        """
        early: dict[int, tuple[Unit, list[Generation]]] = {}
        turn = 0
        for number, unit, generations in self._as_they_finish(units):
            if on_tokens is not None:
                on_tokens(sum(g.new_tokens for g in generations))
            early[number] = unit, generations
            while turn in early:
                yield early.pop(turn)
                turn += 1

    def _as_they_finish(self, units: Iterable[Unit]) -> Iterator[tuple[int, Unit, list[Generation]]]:
        flying: dict[Any, tuple[int, int, Unit]] = {}
        try:
            for number, unit in enumerate(units):
                crew = self._hired()
                while min(crew.loads) == AHEAD:
                    yield self._next_of(flying)
                actor = crew.loads.index(min(crew.loads))
                reference = crew.actors[actor].answer.remote(unit, self._adapter(unit.policy))
                flying[reference] = number, actor, unit
                crew.loads[actor] += 1
            while flying:
                yield self._next_of(flying)
        finally:
            if flying:  # nobody waits for them any more
                self._dismiss()

    def _next_of(self, flying: dict[Any, tuple[int, int, Unit]]) -> tuple[int, Unit, list[Generation]]:
        import ray

        (reference, *_), _ = ray.wait(list(flying))
        number, actor, unit = flying[reference]
        process, generations = _get(reference, f"unit {unit.id}")
        del flying[reference]
        crew = self._hired()
        crew.loads[actor] -= 1
        before = crew.processes.setdefault(actor, process)
        if before != process:
            log.warning("actor %d (process %d) died; process %d took over with %s", actor, before, process, unit.id)
            crew.processes[actor] = process
        return number, unit, generations

    def _hired(self) -> _Crew:
        """Return the actors, starting them first where there are none."""
        if self._crew is None:
            import ray

            self._make_room()
            actor = ray.remote(
                num_cpus=self._config.cpus,
                num_gpus=self._config.gpus,
                max_restarts=-1,
                max_task_retries=RETRIES,
            )(Worker)
            arguments = (self._model, self._local.batch_size, self._local.policy.fingerprint)
            self._crew = _Crew([actor.remote(*arguments) for _ in range(self._config.actors)])
        return self._crew

    def _adapter(self, policy: str) -> Any:
        """Return a reference to the files of a policy's adapter in the object store; None for the base."""
        import ray

        folder = self._local.adapter_of(policy)
        if folder is None:
            return None
        if policy not in self._adapters:
            self._adapters = {policy: ray.put(read_adapter(folder))}  # those of other rounds are not needed again
        return self._adapters[policy]

    # -- training

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train in `trainers` processes that share each step, and write the adapter here; told of all steps at its end.

        A training whose processes die is run again from its beginning: a round is the checkpoint.

        Raises:
            EngineError: it failed more often than that.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        self._dismiss()
        self._make_room()
        folder = self._local.adapter_of(job.start) if job.start else None
        order = TrainingOrder(
            job, self._model, None if folder is None else read_adapter(folder), shard=self._config.shard
        )
        with TemporaryDirectory() as storage:
            trainer = TorchTrainer(
                train_with_peers,
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

    # -- the rest

    def model_here(self) -> Policy:
        """Return the model in this process; actors on GPUs, which may be its own, have ended."""
        if self._config.gpus:
            self._dismiss()
        return self._local.model_here()

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        import ray

        self._dismiss()
        if self._joined:
            ray.shutdown()

    def _make_room(self) -> None:
        """Give this process's weights back where they may be on a GPU that the cluster is about to use."""
        if self._config.gpus:
            self._local.policy.release()

    def _dismiss(self) -> None:
        """End the actors: their CPUs and GPUs are free then."""
        import ray

        for actor in self._crew.actors if self._crew else ():
            ray.kill(actor)
        self._crew = None


def read_adapter(folder: Path) -> Files:
    """Return the files of a PEFT adapter by name."""
    return {name: (folder / name).read_bytes() for name in ADAPTER_FILES}


def connect(config: RayConfig) -> bool:
    """Connect this process to a cluster; return whether it was not connected already.

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
