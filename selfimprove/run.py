"""A run: one folder that holds the resolved configuration, the memory, the adapters and the figures."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .config import PromptsConfig, RunConfig
from .config_file import load_config, to_yaml
from .engines.engine import Engine
from .engines.local import LocalEngine
from .engines.opening import make_engine
from .errors import ConfigError, ModelError, PromptError, UserError
from .fsio import make_folder, write_json, write_text
from .memory import Embedder, ResponseMemory, VectorIndex
from .policy import Policy
from .progress import Progress
from .prompts import load_prompts, twins
from .types import BASE, Prompt, Split

RUNS = Path("runs")
MAY_CHANGE = re.compile(r"name|rounds|prompts\.audit|sample\.batch_size|engine|report_to|(server|ray)\..*")
"""Settings that a resumed run may change: they cannot contradict what is already in its memory."""


@dataclass(frozen=True)
class Run:
    """Everything a stage needs, opened for writing by one process."""

    folder: Path
    config: RunConfig
    memory: ResponseMemory
    index: VectorIndex
    embedder: Embedder
    engine: Engine
    policy: Policy
    """For what becomes tokens, and how; its weights are the engine's."""
    progress: Progress
    begun: float
    """When this process began to open it, by `time.monotonic`."""
    twins: frozenset[str] = frozenset()
    """Prompts that are not learnt from, by id: they say the same as a held-out one."""

    def prompts(self, split: Split) -> list[Prompt]:
        """Return the prompts of one split, in the order of the file, without the twins."""
        return [prompt for prompt in self.memory.prompts(split) if prompt.id not in self.twins]


def run_folder(name: str | Path) -> Path:
    """Return the folder of a run given by path or by name.

    Raises:
        UserError: there is none; the message lists the runs that exist.
    """
    for folder in (Path(name), RUNS / name):
        if (folder / "memory.db").is_file():
            return folder
    known = sorted(p.parent.name for p in RUNS.glob("*/memory.db"))
    raise UserError(f"no run {str(name)!r}; " + (f"there is {', '.join(known)}" if known else "runs/ holds none yet"))


def saved_config(folder: Path) -> RunConfig:
    """Return the resolved configuration that a run was started with.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{file} is missing: the run has not begun yet, or restore the file")
    return load_config(file)


def adapter_folder(folder: Path, policy: str) -> Path | None:
    """Return where a policy's adapter lives in a run folder; None for the base."""
    return None if policy == BASE else folder / "adapters" / policy


@contextmanager
def open_run(
    config: RunConfig, *, resume: bool = False, folder: Path | None = None, progress: Progress | None = None
) -> Iterator[Run]:
    """Create a run, or go on with one, and hold its lock until the block ends.

    Raises:
        ConfigError: the run exists and `resume` is off, or its settings differ.
        UserError: another process holds it, or its prompts or models are not those it was started with.
    """
    begun = time.monotonic()
    folder = folder or RUNS / config.name
    progress = progress or Progress()
    exists = (folder / "memory.db").is_file()
    if exists and not resume:
        raise ConfigError(
            f"the run {folder} exists already; go on with it: add --resume, start another: add name=NEW, "
            f"or delete the folder {folder}"
        )
    recorded = (folder / "config.yaml").is_file()
    if exists and recorded:
        _refuse_changes(saved_config(folder), config)
    prompt_set = load_prompts(config.prompts)
    same = leave_out(config.prompts, prompt_set.prompts)
    policy = Policy.load(config.model)
    refuse_unfit(prompt_set.prompts, policy, config.sample.max_new_tokens)
    embedder = Embedder.load(config.embedder)
    make_folder(folder)
    path = folder / "memory.db"
    with ResponseMemory.open(path, write=True) if exists else ResponseMemory.create(path) as memory:
        if memory.units() and not recorded:  # without units it died before it was recorded
            raise ConfigError(f"{folder / 'config.yaml'} is missing: restore it, or start another run: name=NEW")
        memory.check_fingerprint("model", policy.fingerprint)
        memory.check_fingerprint("embedder", embedder.fingerprint)
        memory.check_fingerprint("prompts", _prompts_digest(prompt_set.prompts))
        memory.add_prompts(prompt_set.prompts, embedder.encode([p.text for p in prompt_set.prompts]))
        left_out = _settled(memory, same)
        write_text(folder / "config.yaml", to_yaml(config))
        write_json(folder / "env.json", environment(policy))
        train, heldout = (sum(p.split is s for p in prompt_set.prompts) for s in (Split.TRAIN, Split.HELDOUT))
        progress.say(f"run       {folder}" + ("   (resumed)" if exists else ""))
        progress.say(f"model     {config.model.path}, {str(policy.dtype).removeprefix('torch.')}, {policy.device}")
        progress.say(
            f"prompts   {train - len(left_out)} to learn from, {heldout} held out"
            f"   ({prompt_set.duplicates} duplicates and {len(prompt_set.skipped)} malformed lines left out)"
        )
        if left_out:
            progress.say(
                f"twins     {len(left_out)} prompts say the same as a held-out one and are left out, too: learning "
                "from them would flatter the measurement"
            )
        local = LocalEngine(policy, lambda name: adapter_folder(folder, name), config.sample.batch_size)
        with closing(make_engine(config, local, folder)) as engine:
            if engine is not local:
                progress.say(f"engine    {engine}")
            yield Run(folder, config, memory, VectorIndex(memory), embedder, engine, policy, progress, begun, left_out)


def noted_twins(memory: ResponseMemory) -> frozenset[str]:
    """Return the prompts that a run leaves out because they say the same as a held-out one, as it began with them."""
    return frozenset((memory.meta("twins") or "").split())


def _settled(memory: ResponseMemory, found: frozenset[str]) -> frozenset[str]:
    """Return the prompts that a run leaves out: `found`, noted before its first unit, and later what was noted."""
    noted = noted_twins(memory)
    if memory.units():
        return noted
    if found or noted:
        memory.set_meta("twins", " ".join(sorted(found)))
    return found


def leave_out(config: PromptsConfig, prompts: Sequence[Prompt]) -> frozenset[str]:
    """Return the ids of the prompts to learn from that say the same as a held-out one.

    Raises:
        PromptError: no prompt is left to learn from or to measure on, or the audit file is missing.
    """
    for split in Split:
        if not any(prompt.split is split for prompt in prompts):
            raise PromptError(
                f"no {split} prompts: {len(prompts)} prompts with prompts.heldout {config.heldout:g}; "
                "add prompts or change the share"
            )
    found = twins(prompts)
    train = sum(prompt.split is Split.TRAIN for prompt in prompts)
    if len(found) == train:
        raise PromptError(f"all {train} prompts to learn from say the same as a held-out one; add other prompts")
    if config.audit is not None and not Path(config.audit).expanduser().is_file():
        raise PromptError(f"no audit file {config.audit}; leave prompts.audit unset to run without one")
    return found


def refuse_unfit(prompts: Sequence[Prompt], policy: Policy, new_tokens: int) -> None:
    """Raise a PromptError that names the first prompt that leaves no room for `new_tokens`.

    Or whose turns the chat template refuses: one of each sequence of roles is tried.
    """
    first = {tuple(m.role for m in prompt.messages): prompt for prompt in reversed(prompts)}
    for prompt in first.values():
        try:
            policy.encode(prompt.messages)
        except ModelError as error:
            raise PromptError(f"prompt {prompt.id} ({prompt.text[:40]!r} ...): {error}") from None
    for prompt in prompts:
        if not policy.fits(prompt.messages, new_tokens):
            raise PromptError(
                f"prompt {prompt.id} ({prompt.text[:40]!r} ...) has {len(policy.encode(prompt.messages))} tokens, and "
                f"sample.max_new_tokens is {new_tokens}, but the model has {policy.positions} positions; "
                "shorten the prompt or leave it out"
            )


def environment(policy: Policy) -> dict[str, Any]:
    """Return what reproducing the run depends on: versions, device, threads. No host name, no environment variables."""
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
    """The installed version, None where the package is used without being installed (a bare checkout)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _prompts_digest(prompts: tuple[Prompt, ...]) -> str:
    from hashlib import sha256

    return sha256("\n".join(f"{p.id} {p.split}" for p in prompts).encode()).hexdigest()


def _refuse_changes(old: RunConfig, new: RunConfig) -> None:
    before, after = flat(old.model_dump()), flat(new.model_dump())
    changed = [key for key in before if before[key] != after.get(key) and not MAY_CHANGE.fullmatch(key)]
    if changed:
        listed = ", ".join(f"{key} was {before[key]!r}, now {after.get(key)!r}" for key in changed)
        raise ConfigError(
            f"cannot resume with other settings: {listed}; undo the change or start another run: name=NEW"
        )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a configuration tree by their dotted keys."""
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return rows
