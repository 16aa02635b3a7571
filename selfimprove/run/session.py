"""An open run: its configuration, memory, engine and policy, held by one writing process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..answers import OwnReader, Reader
from ..config import RunConfig
from ..config_file import shareable, to_yaml
from ..engines import make_engine
from ..engines.engine import Engine
from ..engines.local import LocalEngine
from ..engines.server_client import refuse_unreachable
from ..errors import ConfigError
from ..evaluation.families import Family
from ..fsio import make_folder, write_json, write_text
from ..memory import Embedder, ResponseMemory
from ..models.policy import Policy
from ..prompts import PromptSet, load_prompts
from ..types import Prompt, Split
from .folder import RUNS, adapter_folder, environment, prompt_families, recorded_left_out, run_folder
from .inherit import inherit
from .progress import Progress
from .rehearsal import rehearse
from .resume import as_resumed, refuse_fewer_rounds
from .trackers import Log, no_log, refuse_missing, tracker
from .validate import leave_out, prompts_digest, refuse_unfit, refuse_unusable


@dataclass(frozen=True)
class Run:
    """Everything that a stage needs."""

    folder: Path
    config: RunConfig
    memory: ResponseMemory
    embedder: Embedder
    engine: Engine
    policy: Policy
    """Tokenizer and chat template; the engine manages the weights."""
    progress: Progress
    begun: float
    """Start of this process's work on the run, by `time.monotonic`."""
    families: tuple[Family, ...] = ()
    """Groups of prompts that ask alike, of both splits."""
    reader: Reader = field(default_factory=Reader)
    """Reads the answers of responses."""
    left_out: frozenset[str] = frozenset()
    """Ids of the near-duplicates of held-out prompts, neither learnt from nor shown, and of the held-out prompts that
    an earlier run has learnt from."""
    joined: Mapping[str, int] = field(default_factory=dict)
    """Round from which each of the run's own prompts takes part, by prompt id."""
    round: int = 1
    """The round whose prompts these are."""
    log: Log = no_log
    """Sends the figures of a round to the tracker of `report_to`."""

    def prompts(self, split: Split) -> list[Prompt]:
        """Return the prompts of one split that take part, in the order in which they came, without those left out."""
        mine = self.joined.keys() - self.left_out
        return [p for p in self.memory.prompts(split) if p.id in mine and self.joined[p.id] <= self.round]

    def at(self, round_: int) -> Run:
        """Return the run as it is in a round: with the prompts that have joined until then, and their families."""
        if any(min(round_, self.round) < joined <= max(round_, self.round) for joined in self.joined.values()):
            return replace(self, round=round_, families=_families(self.memory, self.joined, round_))
        return replace(self, round=round_)

    @property
    def latest(self) -> Run:
        """The run as it is in the last round that has begun."""
        return self.at(max(1, self.memory.begun))


@contextmanager
def open_run(
    config: RunConfig,
    *,
    resume: bool = False,
    folder: Path | None = None,
    progress: Progress | None = None,
    own: OwnReader | None = None,
) -> Iterator[Run]:
    """Create a run, or resume one, and hold its lock until the block ends; `own` reads its answers, if given.

    Raises:
        ConfigError: the run exists and `resume` is off, or its settings differ.
        UserError: another process holds it, its prompts, model or embedder differ from those it was started with, or
            its tracker does not start; a new run's folder is made after that.
    """
    begun = time.monotonic()
    folder = folder or RUNS / config.name
    progress = progress or Progress()
    config = as_resumed(config, folder, resume)
    refuse_missing(config.report_to)
    exists, recorded = ((folder / name).is_file() for name in ("memory.db", "config.yaml"))
    if config.engine == "server" and not exists:  # a resumed run may only be summarised
        refuse_unreachable(config.server)
    begins_with = None if _started(folder / "memory.db") else config.memory.from_
    if begins_with is not None:
        run_folder(begins_with)  # before models are loaded
    prompt_set = load_prompts(config.prompts)
    refuse_unusable(config.prompts, prompt_set.prompts)
    policy = Policy.load(config.model)
    config = config.model_copy(update={"model": policy.config})
    refuse_unfit(prompt_set.prompts, policy, config.sample.max_new_tokens)
    conversations = [prompt.messages for prompt in prompt_set.prompts]
    # resumed: it was done; Ray's driver may have no room for a training step: `check` does it
    rehearsal = None if exists or config.engine == "ray" else rehearse(policy, config.train, conversations)
    embedder = Embedder.load(config.embedder, config.model.device)
    vectors = embedder.encode([p.conversation for p in prompt_set.prompts])
    near = leave_out(prompt_set.prompts, vectors, embedder.encode)
    past = None
    if begins_with is not None:
        past = inherit(begins_with, prompt_set.prompts, vectors, embedder, policy.fingerprint)
        near = past.left_out
    reader = Reader.of(config, embedder, opened=policy.opens_thinking, own=own)
    with tracker(config.report_to, config.name, folder, shareable(config)) as log, _memory(folder, exists) as memory:
        if memory.units() and not recorded:  # without units it stopped before it was recorded
            raise ConfigError(f"{folder / 'config.yaml'} is missing: restore it, or start another run: name=NEW")
        refuse_fewer_rounds(memory, config.rounds)
        memory.check_fingerprint("model", policy.fingerprint)
        memory.check_fingerprint("embedder", embedder.fingerprint)
        if reader.own is not None or memory.meta("reader") is not None:  # runs without one note nothing
            if memory.units() and memory.meta("reader") is None:
                memory.set_meta("reader", Reader().fingerprint)
            memory.check_fingerprint("reader", reader.fingerprint)
        memory.check_fingerprint("prompts", prompts_digest(prompt_set.prompts))
        memory.add_prompts(prompt_set.prompts, vectors)
        left_out = _settled(memory, near)
        write_text(folder / "config.yaml", to_yaml(config))
        write_json(folder / "env.json", environment(policy))
        if past is not None:
            memory.commit_import(past.arrival)
        joined = memory.joined()
        progress.say(f"run       {folder}" + ("   (resumed)" if exists else ""))
        progress.say(f"model     {config.model.path}, {str(policy.dtype).removeprefix('torch.')}, {policy.device}")
        if rehearsal is not None and rehearsal.partial:
            progress.say(f"adapter   {rehearsal.adapted}")
        _say_prompts(progress, config, prompt_set, memory, left_out)
        if unknown := sum(not embedder.knows(p.text) for p in prompt_set.prompts):
            progress.say(
                f"embedder  {config.embedder} does not know the script of {unknown} prompts: free-text answers in it "
                "agree only where they are equal; take a multilingual embedder"
            )
        if past is not None:
            progress.say(f"memory    {past.said}")
        local = LocalEngine(policy, lambda name: adapter_folder(folder, name), config.sample.batch_size)
        with closing(make_engine(config, local, folder)) as engine, progress.recorded(folder, config.rounds):
            if engine is not local:
                progress.say(f"engine    {engine}")
            yield Run(
                folder=folder,
                config=config,
                memory=memory,
                embedder=embedder,
                engine=engine,
                policy=policy,
                progress=progress,
                begun=begun,
                families=_families(memory, joined, 1),
                reader=reader,
                left_out=left_out,
                joined=joined,
                log=log,
            )


def _memory(folder: Path, exists: bool) -> ResponseMemory:
    make_folder(folder)
    path = folder / "memory.db"
    return ResponseMemory.open(path, write=True) if exists else ResponseMemory.create(path)


def _say_prompts(
    progress: Progress, config: RunConfig, found: PromptSet, memory: ResponseMemory, left_out: frozenset[str]
) -> None:
    """Say how many prompts there are, of which columns, and why some are left out."""
    own = memory.own_prompts()
    train, heldout = (sum(p.split is split and p.id not in left_out for p in own) for split in Split)
    added = len(own) - len(found.prompts)
    progress.say(
        f"prompts   {train} to learn from, {heldout} held out"
        f"   ({found.duplicates} duplicates and {len(found.skipped)} malformed lines left out)"
        + (f"; {added} of them were added" if added else "")
    )
    if columns := found.columns():
        progress.say(f"columns   {columns}")
    if left_out and config.memory.from_ is None:
        progress.say(
            f"left out  {len(left_out)} prompts are near-duplicates of held-out prompts: learning from them would "
            "flatter the measurement"
        )
    elif left_out:
        progress.say(
            f"left out  {len(left_out)} prompts are, or are near-duplicates of, prompts that this run or "
            f"{Path(config.memory.from_ or '').name} holds out, or that the model has learnt from there"
        )


def _started(path: Path) -> bool:
    """Return whether a memory is there and holds a unit."""
    if not path.is_file():
        return False
    with ResponseMemory.open(path) as memory:
        return bool(memory.units())


def _families(memory: ResponseMemory, joined: Mapping[str, int], round_: int) -> tuple[Family, ...]:
    return prompt_families(memory, [p for p in memory.prompts() if joined.get(p.id, round_ + 1) <= round_])


def _settled(memory: ResponseMemory, near: frozenset[str]) -> frozenset[str]:
    """Return the prompts that a run leaves out: `near`, recorded before its first unit, and later what is recorded."""
    recorded = recorded_left_out(memory)
    if memory.units():
        return recorded
    if near or recorded:
        memory.set_meta("twins", " ".join(sorted(near)))
    return near
