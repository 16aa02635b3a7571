"""A run's folder: its place, saved configuration and adapters. Light imports: every command starts here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..types import BASE, Prompt

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..evaluation.families import Family
    from ..memory import ResponseMemory
    from ..models.policy import Policy

RUNS = Path("runs")

INTRODUCED: dict[str, object] = {
    "propose.exemplar.agree": 0.0,
    "propose.exemplar.draw": "random",
    "propose.exemplar.group": 1,
    "propose.revise.shots": 0,
    "propose.revise.trial": 0,
    "propose.revise.verdicts": True,
    "propose.stitch.steps": 1,
    "vote.echo": 0.0,
    "guard.base_truncation": 1.0,
    "guard.echo_rise": 1.0,
    "guard.family_fall": 1.0,
    "guard.family_rise": 1.0,
}
"""Settings that came later than runs that may still go on, and the values with which these behave as they did.

A run's folder holds its complete configuration: one without a setting is older than it. A new setting whose default
changes what a round does gets a line here. Users' own files have the defaults, a resumed run what was recorded.
"""


def run_folder(name: str | Path) -> Path:
    """Return the folder of a run given by path or by name.

    Raises:
        UserError: there is none; the message lists the runs that exist.
    """
    for folder in (Path(name), RUNS / name):
        if (folder / "memory.db").is_file():
            return folder
    known = run_names()
    raise UserError(f"no run {str(name)!r}; " + (f"there is {', '.join(known)}" if known else "runs/ holds none yet"))


def home(file: Path, overrides: Sequence[str], config: RunConfig) -> Path:
    """Return the folder of the run of a configuration file: the one it lies in, as recorded, else runs/NAME.

    A copied or renamed run has the name of another one in its configuration; `name=` among `overrides` decides.
    """
    recorded = file.name == "config.yaml" and (file.parent / "memory.db").is_file()
    named = any(override.startswith("name=") for override in overrides)
    return file.parent if recorded and not named else RUNS / config.name


def run_names() -> list[str]:
    """Return the names of the runs below runs/, sorted."""
    return sorted(path.parent.name for path in RUNS.glob("*/memory.db"))


def saved_config(folder: Path) -> RunConfig:
    """Return the resolved configuration that a run was started with; see `INTRODUCED` for those of older versions.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from ..config_file import load_config

    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{file} is missing: the run has not begun yet, or restore the file")
    return load_config(file, missing=INTRODUCED)


def located(config: RunConfig) -> RunConfig:
    """Return the settings with absolute paths of models and of `memory.from`: they hold in any working directory."""
    from ..config_file import expanded
    from ..models.sources import absolute_name

    model = config.model.model_copy(update={"path": absolute_name(config.model.path)})
    memory, name = config.memory, config.memory.from_
    if name is not None:
        here = expanded(name)
        place = here if (here / "memory.db").is_file() else RUNS / here
        memory = memory.model_copy(update={"from_": str(place.absolute())})
    return config.model_copy(update={"model": model, "embedder": absolute_name(config.embedder), "memory": memory})


def as_recorded(config: RunConfig, saved: RunConfig) -> RunConfig:
    """Return the settings of a run that goes on, with what was recorded where they do not say.

    That is the model's commit and date, and the settings that older runs do not have (`INTRODUCED`).
    """
    from ..config_file import fill, parse_config

    pins = {name: getattr(config.model, name) or getattr(saved.model, name) for name in ("commit", "date")}
    config = config.model_copy(update={"model": config.model.model_copy(update=pins)})
    given, recorded = config.model_dump(exclude_unset=True), flat(saved.model_dump())
    fill(given, {key: recorded[key] for key in INTRODUCED})
    return parse_config(given)


def adapter_folder(folder: Path, policy: str) -> Path | None:
    """Return where a policy's adapter lives in a run folder; None for the base."""
    return None if policy == BASE else folder / "adapters" / policy


def environment(policy: Policy) -> dict[str, Any]:
    """Return versions, device and threads, for reproduction. No host name, no environment variables."""
    import platform

    import torch

    packages = ("selfimprove", "torch", "transformers", "sentence-transformers", "faiss-cpu", "peft")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "device": str(policy.device),
        "dtype": str(policy.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _version(package: str) -> str | None:
    """Return the installed version; None for a package used from a checkout without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def recorded_left_out(memory: ResponseMemory) -> frozenset[str]:
    """Return the ids of the prompts that a run leaves out, as recorded at its start: see `Run.left_out`."""
    return frozenset((memory.meta("twins") or "").split())


def prompt_families(memory: ResponseMemory, prompts: Sequence[Prompt]) -> tuple[Family, ...]:
    """Return the families of prompts of the memory, of both splits, from their stored vectors."""
    from ..evaluation.families import families

    ids = [prompt.id for prompt in prompts]
    return families(ids, [prompt.text for prompt in prompts], memory.prompt_vectors(ids))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a configuration tree by their dotted keys."""
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return rows
