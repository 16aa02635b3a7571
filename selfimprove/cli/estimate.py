"""Label-free estimate from a small sample: parse rate, agreement, headroom, time of the rounds, warnings.

Voting can teach the difference between a single sample and the majority answer (the headroom), and only on prompts
whose majority is trusted.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..answers import Kind, Reader
from ..config import RunConfig
from ..engines.local import LocalEngine
from ..evaluation.statistics import concentration
from ..memory import Embedder
from ..models.policy import Policy
from ..seeds import seed_for
from ..stages.vote import Ballot, count_votes
from ..types import BASE, Finish, Origin, Prompt, Request, Stage, Unit
from .terminal import printable

PROMPTS = 32
"""Number of prompts sampled."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Statistics of the sample: fractions in [0, 1], lengths in tokens, speed in new tokens/s.

    `headroom` is the mean fraction of a prompt's samples without its majority answer, unreadable ones included;
    `trusted` the fraction of prompts whose support reaches `select.threshold`, and `open` of those that the recall
    operator would answer again; `top_answer` the fraction of prompts that the most frequent majority answer wins.
    """

    prompts: int
    samples: int
    parse_rate: float
    agreement: float
    headroom: float
    trusted: float
    open: float
    truncation: float
    top_answer: float
    mean_tokens: float
    tokens_per_s: float
    read: tuple["ReadAnswer", ...] = ()
    """Every answer, and how it was read, a prompt's answers together."""


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """One sampled answer as it was read: its prompt, kind and class (None: it abstains); `tokens` were written."""

    prompt: str
    kind: Kind
    text: str
    answer: str | None
    tokens: int
    truncated: bool


def probed(prompts: Sequence[Prompt], limit: int = PROMPTS) -> list[Prompt]:
    """Return the prompts that a probe asks: the first `limit` by hash."""
    return sorted(prompts, key=lambda prompt: prompt.id)[:limit]


def take(config: RunConfig, policy: Policy, prompts: Sequence[Prompt], limit: int = PROMPTS) -> Probe:
    """Sample `sample.k` answers to each of at most `limit` prompts, as round 1 would, and keep nothing."""
    how = config.sample
    asked = probed(prompts, limit)
    requests = tuple(
        Request(p.id, Origin.SAMPLE, p.messages, seed_for(config.seed, "probe", p.id, slot))
        for p in asked
        for slot in range(how.k)
    )
    sampling = how.sampling()
    engine = LocalEngine(policy, lambda _: None, how.batch_size)
    begun = time.monotonic()
    answers = engine.answer(Unit(1, Stage.SAMPLE, 0, requests, sampling, BASE))
    seconds = time.monotonic() - begun
    reader = Reader.of(config, Embedder.load(config.embedder), opened=policy.opens_thinking)
    tallies = []
    read: list[ReadAnswer] = []
    for i, prompt in enumerate(asked):
        group = answers[i * how.k : (i + 1) * how.k]
        texts = [answer.text for answer in group]
        kind = reader.kind(prompt.text, texts)
        named = reader.classes(prompt.text, texts, kind)
        read += [
            ReadAnswer(prompt.text, kind, a.text, name, a.new_tokens, a.finish == Finish.LENGTH)
            for a, name in zip(group, named, strict=True)
        ]
        ballots = [Ballot(slot, answer, derived=False) for slot, answer in enumerate(named)]
        tallies.append(count_votes(prompt.id, ballots, derived_cap=0.0)[0])
    decided = [tally for tally in tallies if tally.answer is not None]
    support = np.array([tally.support for tally in tallies])
    tokens = [answer.new_tokens for answer in answers]
    return Probe(
        prompts=len(asked),
        samples=how.k,
        parse_rate=1 - sum(tally.abstained for tally in tallies) / len(answers),
        agreement=float(np.mean([tally.agreement for tally in decided] or [0.0])),
        headroom=float(1 - support.mean()),
        trusted=float(np.mean(support >= config.select.threshold)),
        open=float(np.mean(support < config.propose.exemplar.below)),
        truncation=float(np.mean([answer.finish == Finish.LENGTH for answer in answers])),
        top_answer=concentration([tally.answer for tally in tallies]),
        mean_tokens=float(np.mean(tokens)),
        tokens_per_s=sum(tokens) / seconds,
        read=tuple(read),
    )


def generation_seconds(config: RunConfig, probe: Probe, train: int, heldout: int) -> float:
    """Estimate the seconds of generation of all rounds at the probe's speed: samples, recall, evaluation."""
    measured = min(heldout, config.evaluate.limit or heldout) * (config.evaluate.k + 1)
    written = train * (config.sample.k + probe.open * config.propose.exemplar.k)
    answers = config.rounds * written + (config.rounds + 1) * measured
    return answers * probe.mean_tokens / probe.tokens_per_s if probe.mean_tokens else 0.0


def report(config: RunConfig, probe: Probe, train: int, heldout: int) -> list[str]:
    """Return the probe as lines of text: statistics, expectation, time, warnings."""
    rounds = f"{config.rounds} rounds"
    time_ = f"about {generation_seconds(config, probe, train, heldout):.0f} s of sampling, recall and measurement"
    return [
        f"probe     {probe.prompts} prompts x {probe.samples}: {probe.parse_rate:.0%} can be read, "
        f"{probe.truncation:.0%} cut off, agreement {probe.agreement:.2f}, {probe.tokens_per_s:.0f} tokens/s",
        f"expect    {probe.trusted:.0%} of the prompts to have a majority that is trusted; {probe.headroom:.0%} of the "
        "samples still differ from their majority: that much can be learnt",
        f"time      {time_} in {rounds}; training, and revise and stitch where they are on, come on top"
        if probe.mean_tokens
        else f"time      cannot be told for {rounds}: nothing was written",
        *_as_read(probe),
        *(f"warning   {text}" for text in warnings(config, probe)),
    ]


SHOWN = 10
"""Answers that are shown as they were read."""


def _as_read(probe: Probe) -> list[str]:
    """The parse rate of each kind, and ten answers of different prompts with their classes."""
    kinds = Counter(answer.kind for answer in probe.read)
    parsed = Counter(answer.kind for answer in probe.read if answer.answer is not None)
    rates = ", ".join(f"{kind} {parsed[kind] / count:.0%} of {count}" for kind, count in kinds.most_common())
    shown = probe.read[:: max(1, probe.samples)][:SHOWN]
    return [
        f"read      {rates}" if rates else "read      nothing",
        *(
            f"          {a.kind:7} {printable(a.prompt, 40)!r} -> {printable(a.text, 50)!r}: "
            + ("(none read)" if a.answer is None else printable(a.answer, 40))
            for a in shown
        ),
    ]


def warnings(config: RunConfig, probe: Probe) -> list[str]:
    """Return reasons why rounds may not help, as far as they show without labels (a wrong majority does not)."""
    if not probe.mean_tokens:
        return ["every answer is empty: the model ends its turn at once; look at its chat template, or take another"]
    found = []
    if probe.truncation > config.guard.base_truncation:
        found.append(
            f"{probe.truncation:.0%} of the answers are cut off at sample.max_new_tokens="
            f"{config.sample.max_new_tokens}, the limit is {config.guard.base_truncation:.0%}: the run would stop "
            "before its first round; raise it (`selfimprove init` finds a length that fits), or set "
            "guard.base_truncation=1 if the answers stand in what is cut off"
        )
    if probe.parse_rate < 0.4:
        found.append(
            f"only {probe.parse_rate:.0%} of the answers can be read, {probe.truncation:.0%} are cut off: raise "
            "sample.max_new_tokens, ask for short answers, or set vote.kind; what cannot be read has no vote"
        )
    if probe.trusted < 0.1:
        found.append(
            f"the votes on {probe.trusted:.0%} of the prompts reach select.threshold {config.select.threshold:g}: "
            "hardly anything to learn from; take easier prompts, more samples or a better base"
        )
    if probe.headroom < 0.05:
        found.append(
            f"{1 - probe.headroom:.0%} of the samples give their majority's answer already: voting has nothing to add; "
            "take harder prompts or a higher sample.temperature"
        )
    if probe.top_answer > config.select.answer_share and probe.prompts == PROMPTS:
        found.append(
            f"one answer wins {probe.top_answer:.0%} of the prompts: unless that is right, set vote.calibration to 0.75"
        )
    return found
