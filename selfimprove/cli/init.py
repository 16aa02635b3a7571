"""`selfimprove init`: a configuration that fits the prompts and the model, from a small probe of both."""

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..answers import Kind, Reader
from ..config import ModelConfig, RunConfig
from ..config_file import apply_override, expanded, parse_config
from ..engines.engine import TrainingJob
from ..engines.local import LocalEngine
from ..errors import UserError
from ..fsio import write_text
from ..memory import Embedder
from ..models.policy import Policy
from ..prompts import load_prompts
from ..run.rehearsal import rehearse
from ..run.validate import leave_out, refuse_unfit, refuse_unusable
from ..training.footprint import peak_gb
from ..types import Example, Prompt, Split
from .estimate import Probe, generation_seconds, probed, take, warnings

PROMPTS, SAMPLES = 8, 8
"""Prompts that are probed, and answers to each."""

LENGTHS = (128, 256, 512, 1024)
"""Limits of tokens that are tried in turn, until few answers are cut off."""

REASONING_LENGTHS = (1024, 4096)
"""The same for a model that reasons before it answers."""

FEW = 0.1
"""Fraction of truncated answers at which the lengths are known."""

QUANTILE, ROOM = 0.95, 1.25
"""Length of an answer that there must be room for, and how much more."""

MEASURED = 200
"""Held-out prompts that measure well enough: an interval of about 0.1 at an accuracy of 0.5."""

EXAMPLES_PER_STEP = 8
"""Training examples that an optimizer step should hold, about."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """Measurements: the probe, its last limit, the answer length that fits, prompts, training, memory.

    `example_tokens` is the mean number of tokens of a training example, prompt and answer; `step_s` the seconds of
    training per token; `peak_gb` the peak memory of the probe and one training step.
    """

    probe: Probe
    limit: int
    tokens: int
    prompts: int
    learnt: int
    heldout: int
    left_out: int
    example_tokens: float
    step_s: float
    peak_gb: float

    @property
    def ended(self) -> int:
        """The quantile of the lengths of the answers that ended by themselves."""
        return _quantile([a.tokens for a in self.probe.read if not a.truncated])

    @property
    def cut(self) -> float:
        """Fraction of the probe's answers that are longer than `tokens`."""
        return float(np.mean([a.truncated or a.tokens > self.tokens for a in self.probe.read]))


def write_config(
    out: Path, prompts: str, model: str | None, audit: str | None, overrides: tuple[str, ...], say: Say
) -> None:
    """Probe the model on the prompts and write a commented configuration to `out`; `say` is told what is found.

    Raises:
        UserError: `out` exists, or prompts, audit or model cannot be used.
    """
    if out.exists():
        raise UserError(f"{out} exists already; name another file, or remove it")
    if not out.parent.is_dir():
        raise UserError(f"no folder {out.parent} to write {out.name} in; make it first")
    if prompts == "-":
        raise UserError("a configuration names its prompts: save them in a file, and give that to --prompts")
    raw: dict[str, Any] = {"name": out.stem, "rounds": 2, "prompts": {"path": prompts}}
    if model is not None:
        raw["model"] = {"path": model}
    if audit is not None:
        raw["prompts"]["audit"] = audit
    raw["sample"] = {"k": SAMPLES}
    for override in overrides:
        apply_override(raw, override)
    given = {override.partition("=")[0] for override in overrides}
    count = len(load_prompts(parse_config(raw).prompts).prompts)
    raw["prompts"].setdefault("heldout", heldout_share(count))
    config = parse_config(raw)
    found = measure(config, say, sample_length="sample.max_new_tokens" not in given)
    settings, comments = fitting(raw, found)
    for override in overrides:
        apply_override(settings, override)
    resolved = parse_config(settings)  # what is wrong is said before anything is written
    for section, key in (("prompts", "path"), ("prompts", "audit"), ("model", "path")):
        if key in settings.get(section, {}):
            settings[section][key] = _beside(out, settings[section][key])
    head = _head(out, resolved, found, say)
    comments = {key: text for key, text in comments.items() if key not in given}
    write_text(out, head + commented(settings, comments))
    say(f"wrote     {out}")


def heldout_share(prompts: int) -> float:
    """Return the fraction to hold out: 0.3 of a few hundred prompts, and of more as many as measure well enough."""
    return round(min(0.3, max(0.02, MEASURED / prompts)), 2)


def measure(config: RunConfig, say: Say, *, sample_length: bool = True) -> Finding:
    """Load prompts and model, sample a few answers with rising limits, and train one step on them.

    With `sample_length` off the configured limit is the only one.

    Raises:
        UserError: the prompts or the model cannot be used.
    """
    prompt_set = load_prompts(config.prompts)
    prompts = prompt_set.prompts
    refuse_unusable(config.prompts, prompts)
    embedder = Embedder.load(config.embedder, config.model.device)
    left_out = leave_out(prompts, embedder.encode([p.conversation for p in prompts]), embedder.encode)
    learnt = [p for p in prompts if p.split is Split.TRAIN and p.id not in left_out]
    heldout = sum(p.split is Split.HELDOUT for p in prompts)
    say(f"prompts   {len(learnt)} to learn from, {heldout} held out, {len(left_out)} near-duplicates of those left out")
    policy = Policy.load(config.model)
    say(f"model     {config.model.path}, {str(policy.dtype).removeprefix('torch.')} on {policy.device}")
    limits = _limits(config, policy, prompts) if sample_length else (config.sample.max_new_tokens,)
    refuse_unfit(prompts, policy, limits[0])
    rehearse(policy, config.train, [p.messages for p in prompts])
    probe, limit = _probe(config, policy, embedder, learnt, limits, say)
    asked = probed(learnt, PROMPTS)
    prompt_tokens = np.mean([len(policy.encode(p.messages)) for p in asked])
    step_s = _train(config, policy, asked, probe)
    return Finding(
        probe=probe,
        limit=limit,
        tokens=fitting_length(probe, limit) if sample_length else limit,
        prompts=len(prompts),
        learnt=len(learnt),
        heldout=heldout,
        left_out=len(left_out),
        example_tokens=float(prompt_tokens + probe.mean_tokens),
        step_s=step_s,
        peak_gb=peak_gb(str(policy.device)),
    )


def fitting_length(probe: Probe, limit: int) -> int:
    """Return `sample.max_new_tokens`: the 95 % quantile of answers that ended, and a quarter more; `limit` at most.

    Where too many answers are cut off for that to be known, it is `limit`.
    """
    ended = [answer.tokens for answer in probe.read if not answer.truncated]
    if probe.truncation > FEW or not ended:
        return limit
    return min(limit, max(16, 8 * math.ceil(_quantile(ended) * ROOM / 8)))


def fitting(raw: Mapping[str, Any], found: Finding) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings that fit a finding, as a nested dict, and comments by dotted key."""
    probe = found.probe
    kinds = Counter(answer.kind for answer in probe.read[::SAMPLES])
    usual, _ = kinds.most_common(1)[0]
    vote: dict[str, Any] = {"kind": str(usual) if len(kinds) == 1 else "auto"}
    batch = min(4096, max(256, 256 * math.ceil(EXAMPLES_PER_STEP * found.example_tokens / 256)))
    settings: dict[str, Any] = {
        "name": raw["name"],
        "rounds": raw["rounds"],
        "model": {"path": ModelConfig().path} | raw.get("model", {}),
        "prompts": dict(raw["prompts"]),
        "sample": {"k": 16 if usual is Kind.CHOICE else 8, "max_new_tokens": found.tokens},
        "propose": {"exemplar": {"k": 4, "below": 0.8}},
        "vote": vote,
        "select": {"threshold": 0.5, "per_prompt": 2},
        "train": {"batch_tokens": batch},
        "evaluate": {"k": 8} | ({"limit": MEASURED} if found.heldout > MEASURED else {}),
    }
    comments = {
        "name": "the folder under runs/",
        "model.path": "or another HF id, local folder or GGUF file",
        "prompts.audit": "opened to report accuracy alone; no decision reads it",
        "prompts.heldout": f"{found.heldout} of {found.prompts} prompts measure, {found.learnt} teach"
        + (f", {found.left_out} near-duplicates of those that measure are left out" if found.left_out else ""),
        "sample.k": "answers per prompt and round"
        + ("; options are often agreed on by luck" if usual is Kind.CHOICE else ""),
        "sample.max_new_tokens": f"cuts off {found.cut:.0%} of the probe's answers; {QUANTILE:.0%} of those that ended "
        f"had at most {found.ended} tokens",
        "propose.exemplar": "answers with own trusted answers to near prompts in view, where votes are split",
        "vote.kind": ", ".join(f"{kind} {n} of {kinds.total()} prompts" for kind, n in kinds.most_common())
        + f"; {probe.parse_rate:.0%} of the answers can be read",
        "select.threshold": f"least support of a majority that is trusted: {probe.trusted:.0%} of the prompts reach it",
        "select.per_prompt": "texts of one prompt that are trained on",
        "train.batch_tokens": f"a step: about {batch / found.example_tokens:.0f} examples of "
        f"{found.example_tokens:.0f} tokens, prompt and answer",
        "evaluate.k": "answers per held-out prompt, before the first round and after each",
        "evaluate.limit": "held-out prompts that are measured",
    }
    return settings, comments


def commented(settings: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Return settings as YAML, one line a key, with comments by dotted key behind them."""
    lines = []
    for name, value in settings.items():
        if not isinstance(value, Mapping):
            lines.append(_line(name, value, comments.get(name)))
            continue
        lines += ["", f"{name}:"]
        lines += [f"  {_line(key, inner, comments.get(f'{name}.{key}'))}" for key, inner in value.items()]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, comment: str | None) -> str:
    shown = (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000)
        .removesuffix("...\n")
        .strip()
    )
    return f"{key}: {shown}" + (f" # {comment}" if comment else "")


def _head(out: Path, config: RunConfig, found: Finding, say: Say) -> str:
    """Return the comment at the top: command, probe, estimates, warnings; and say the last two."""
    train = found.learnt * found.probe.trained_on * config.select.per_prompt * _tokens_per_survivor(config, found)
    seconds = generation_seconds(config, found.probe, found.learnt, found.heldout)
    trained = config.rounds * config.train.epochs * train * found.step_s
    estimate = (
        f"{_duration(seconds + trained)}, {_duration(trained)} of it training, and at least {found.peak_gb:.1f} GB of "
        "memory"
    )
    probe = found.probe
    unlimited = config.model_copy(update={"guard": config.guard.model_copy(update={"base_truncation": 1.0})})
    told = warnings(unlimited, probe)
    if found.cut > config.guard.base_truncation:
        told.insert(
            0,
            f"{found.cut:.0%} of the answers do not end within {found.tokens} tokens, so the run would stop before its "
            "first round: take a model that is tuned to follow instructions, or ask for short answers in the prompts",
        )
    say(f"answers   {probe.parse_rate:.0%} can be read, agreement {probe.agreement:.2f}")
    say(f"length    sample.max_new_tokens {found.tokens}: {found.cut:.0%} of the probe's answers are longer")
    say(f"expect    about {estimate}")
    for text in told:
        say(f"warning   {text}")
    return "\n".join(
        [
            f"# selfimprove run {out}",
            f"# Made by `selfimprove init` from {probe.prompts} prompts with {probe.samples} answers each of up to "
            f"{found.limit} tokens.",
            f"# To expect on this machine: about {estimate}.",
            "# `selfimprove explain KEY` says what a setting means; one that is not here has its default.",
            *(f"# Warning: {text}" for text in told),
            "",
            "",
        ]
    )


def _tokens_per_survivor(config: RunConfig, found: Finding) -> float:
    """Tokens trained on for a survivor: its plain example, and its part of those in revise format, rivals in view."""
    share = config.train.revise.share
    revision = found.example_tokens + config.propose.revise.rivals * found.probe.mean_tokens
    return found.example_tokens + share / (1 - share) * revision


def _limits(config: RunConfig, policy: Policy, prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """Return the limits to try, as far as they fit the model's positions behind the longest prompt."""
    lengths = REASONING_LENGTHS if Reader.of(config, opened=policy.opens_thinking).thinking.opened else LENGTHS
    if policy.positions is None:
        return lengths
    longest = max(len(policy.encode(p.messages)) for p in sorted(prompts, key=lambda p: -len(p.conversation))[:4])
    room = policy.positions - longest
    return tuple(n for n in lengths if n <= room) or (max(1, room),)


def _probe(
    config: RunConfig,
    policy: Policy,
    embedder: Embedder,
    prompts: Sequence[Prompt],
    limits: Sequence[int],
    say: Say,
) -> tuple[Probe, int]:
    """Return the first probe in which few answers are cut off, else the last, with its limit; without recall."""
    propose = config.propose.model_copy(update={"exemplar": config.propose.exemplar.model_copy(update={"k": 0})})
    for limit in limits:
        sample = config.sample.model_copy(update={"k": SAMPLES, "max_new_tokens": limit})
        begun = time.monotonic()
        asked = config.model_copy(update={"sample": sample, "propose": propose})
        probe = take(asked, policy, embedder, prompts, PROMPTS)
        say(
            f"probe     {probe.prompts} prompts x {probe.samples}, up to {limit} tokens: {probe.truncation:.0%} cut off"
            f"   {time.monotonic() - begun:.0f} s"
        )
        if probe.truncation <= FEW:
            break
    return probe, limit


def _train(config: RunConfig, policy: Policy, prompts: Sequence[Prompt], probe: Probe) -> float:
    """Train on the probe's answers for one step, throw the adapter away, and return the seconds per token."""
    by_text = {prompt.text: prompt for prompt in prompts}
    examples: list[Example] = []
    tokens = 0
    for answer in sorted(probe.read, key=lambda answer: answer.tokens):
        prompt = by_text[answer.prompt]
        if answer.text and tokens < config.train.batch_tokens:
            examples.append(Example(prompt.id, prompt.messages, answer.text, 1.0, len(examples)))
            tokens += answer.tokens + len(policy.encode(prompt.messages))
    if not examples:
        return 0.0
    spec = config.train.model_copy(update={"epochs": 1, "batch_tokens": tokens, "method": "sft"})
    engine = LocalEngine(policy, lambda _: None, config.sample.batch_size)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        engine.train(TrainingJob(tuple(examples), spec, seed=config.seed), Path(folder) / "adapter")
    return (time.monotonic() - begun) / tokens


def _quantile(lengths: Sequence[int]) -> int:
    return int(np.quantile(lengths, QUANTILE, method="higher")) if lengths else 0


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{max(1, round(seconds / 60))} min"


def _beside(out: Path, source: str) -> str:
    """Return a file's path as seen from the configuration, which relative paths start from; ids stay as they are."""
    file = expanded(source)
    if not file.exists() or file.is_absolute() or source.startswith(("hf:", "bundled:")):
        return source
    return Path(os.path.relpath(file, out.parent)).as_posix()
