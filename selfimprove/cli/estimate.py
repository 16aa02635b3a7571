"""Label-free estimate from a small sample: parse rate, agreement, headroom, time of the rounds, warnings.

The sample is the first half of a round on a few prompts, in a memory that is thrown away: sample, vote, recall, vote.
Voting can teach the difference between a single sample and the majority answer (the headroom), and only on prompts
whose majority is trusted.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..answers import Kind, Reader
from ..config import RunConfig
from ..engines.local import LocalEngine
from ..evaluation.statistics import concentration
from ..memory import Embedder, ResponseMemory
from ..models.policy import Policy
from ..outcomes import Tally
from ..run.progress import Progress
from ..run.session import Run
from ..stages.independence import Independence, independence, ratio_interval
from ..stages.recall import demonstrations, enough, recall
from ..stages.sample import sample
from ..stages.select import Candidate, gates
from ..stages.units import by_prompt
from ..stages.vote import recall_answers, vote
from ..types import Finish, Poll, Prompt
from .terminal import printable

PROMPTS = 64
"""Number of prompts sampled."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Statistics of the sample: fractions in [0, 1], lengths in tokens, speed in new tokens/s.

    `headroom` is the mean fraction of a prompt's samples without its majority answer, unreadable ones included;
    `trusted` the fraction of prompts whose support reaches `select.threshold`, `trained_on` of those with a sample that
    passes the gates of `select` (caps and duplicates are not counted), `open` and `disputed` of those that recall and
    revise would answer again; `top_answer` of those that the most frequent majority answer wins.
    """

    prompts: int
    samples: int
    parse_rate: float
    agreement: float
    headroom: float
    trusted: float
    trained_on: float
    open: float
    truncation: float
    top_answer: float
    mean_tokens: float
    tokens_per_s: float
    disputed: float = 0.0
    read: tuple["ReadAnswer", ...] = ()
    """Every sample, and how it was read, a prompt's samples together."""
    recall: "RecallProbe | None" = None
    """None: the operator is off."""


@dataclass(frozen=True, slots=True)
class RecallProbe:
    """Recall on the prompts of the probe: `shown` of them have a trusted answer, which others are shown.

    `independence` is None if these were too few, or no prompt was open; `interval` is the 95 % interval of its ratio,
    `trusted` the fraction of prompts whose support reaches `select.threshold` where recalled answers vote.
    """

    shown: int
    independence: Independence | None = None
    interval: tuple[float, float] | None = None
    trusted: float = 0.0


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


def take(
    config: RunConfig, policy: Policy, embedder: Embedder, prompts: Sequence[Prompt], limit: int = PROMPTS
) -> Probe:
    """Sample, vote, recall and vote on at most `limit` prompts, as round 1 would, and keep nothing."""
    asked = probed(prompts, limit)
    with _throwaway_run(config, policy, embedder, asked) as run:
        begun = time.monotonic()
        sample(run, 1)
        seconds = time.monotonic() - begun
        vote(run, 1, Poll.SAMPLED)
        judged, kinds = run.memory.judgements(1, Poll.SAMPLED), run.memory.kinds(1, Poll.SAMPLED)
        groups = by_prompt(run.memory.responses(rounds=[1]))
        tallies = list(run.memory.tallies(1, Poll.SAMPLED).values())
        answers = [r for prompt in asked for r in groups[prompt.id]]
        candidates = [Candidate(r, judged[r.id]) for r in answers]
        dropped = gates(candidates, {t.prompt_id: t for t in tallies}, config.select, run.reader.shown)
        recalled = _recall(run, config) if config.propose.exemplar.k else None
    texts = {prompt.id: prompt.text for prompt in asked}
    support = np.array([tally.support for tally in tallies])
    return Probe(
        prompts=len(asked),
        samples=config.sample.k,
        parse_rate=1 - sum(tally.abstained for tally in tallies) / len(answers),
        agreement=float(np.mean([tally.agreement for tally in tallies if tally.answer is not None] or [0.0])),
        headroom=float(1 - support.mean()),
        trusted=_trusted(config, tallies),
        trained_on=len({r.prompt_id for r in answers if r.id not in dropped}) / len(asked),
        open=float(np.mean(support < config.propose.exemplar.below)),
        truncation=float(np.mean([r.finish == Finish.LENGTH for r in answers])),
        top_answer=concentration([tally.answer for tally in tallies]),
        mean_tokens=float(np.mean([r.new_tokens for r in answers])),
        tokens_per_s=sum(r.new_tokens for r in answers) / seconds,
        disputed=float(np.mean((support >= config.propose.revise.above) & (support < config.propose.revise.below))),
        read=tuple(
            ReadAnswer(
                texts[r.prompt_id],
                Kind(kinds[r.prompt_id]),
                r.text,
                judged[r.id].answer,
                r.new_tokens,
                r.finish == Finish.LENGTH,
            )
            for r in answers
        ),
        recall=recalled,
    )


@contextmanager
def _throwaway_run(config: RunConfig, policy: Policy, embedder: Embedder, prompts: Sequence[Prompt]) -> Iterator[Run]:
    """Open a run of these prompts on the local engine, in a folder that is removed; recalled answers always vote."""
    exemplar = config.propose.exemplar.model_copy(update={"agree": 0.0})
    config = config.model_copy(update={"propose": config.propose.model_copy(update={"exemplar": exemplar})})
    with tempfile.TemporaryDirectory() as folder, ResponseMemory.create(Path(folder) / "memory.db") as memory:
        memory.add_prompts(prompts, embedder.encode([prompt.conversation for prompt in prompts]))
        yield Run(
            folder=Path(folder),
            config=config,
            memory=memory,
            embedder=embedder,
            engine=LocalEngine(policy, lambda _: None, config.sample.batch_size),
            policy=policy,
            progress=Progress(quiet=True),
            begun=time.monotonic(),
            reader=Reader.of(config, embedder, opened=policy.opens_thinking),
            joined=memory.joined(),
        )


def _recall(run: Run, config: RunConfig) -> RecallProbe:
    """Answer again with demonstrations, if there are enough of them, and compare with the samples."""
    shown = len(demonstrations(run, 1, Poll.SAMPLED).shown)
    if not enough(shown, config.propose.exemplar.shots):
        return RecallProbe(shown)
    recall(run, 1)
    vote(run, 1, Poll.RECALLED)
    judged = {id_: j.answer for id_, j in run.memory.judgements(1, Poll.RECALLED).items()}
    answers = recall_answers(1, by_prompt(run.memory.responses(rounds=[1])), judged)
    return RecallProbe(
        shown,
        independence(answers),
        ratio_interval(answers, seed=config.seed),
        _trusted(config, list(run.memory.tallies(1, Poll.RECALLED).values())),
    )


def _trusted(config: RunConfig, tallies: Sequence[Tally]) -> float:
    """The fraction of prompts whose support reaches `select.threshold`."""
    return float(np.mean([tally.support >= config.select.threshold for tally in tallies]))


def generation_seconds(config: RunConfig, probe: Probe, train: int, heldout: int) -> float:
    """Estimate the seconds of generation of all rounds at the probe's speed: samples, recall, revision, evaluation.

    Revisions are counted as if every round used them, verdicts at their full length; contexts are not counted.
    """
    revise = config.propose.revise
    evaluated = min(heldout, config.evaluate.limit or heldout)
    written = train * (config.sample.k + probe.open * config.propose.exemplar.k)
    answers = config.rounds * written + (config.rounds + 1) * evaluated * (config.evaluate.k + 1)
    tried = min(evaluated, revise.trial) if revise.k else 0
    revisions = config.rounds * (train * probe.disputed * revise.k + tried)
    verdicts = revise.critique_tokens if revise.verdicts else 0
    tokens = answers * probe.mean_tokens + revisions * (probe.mean_tokens + verdicts)
    return tokens / probe.tokens_per_s if probe.mean_tokens else 0.0


def report(config: RunConfig, probe: Probe, train: int, heldout: int) -> list[str]:
    """Return the probe as lines of text: statistics, expectation, recall, time, warnings."""
    rounds = f"{config.rounds} rounds"
    time_ = (
        f"about {generation_seconds(config, probe, train, heldout):.0f} s of sampling, recall, revision and measurement"
    )
    return [
        f"probe     {probe.prompts} prompts x {probe.samples}: {probe.parse_rate:.0%} can be read, "
        f"{probe.truncation:.0%} cut off, agreement {probe.agreement:.2f}, {probe.tokens_per_s:.0f} tokens/s",
        f"expect    {probe.trusted:.0%} of the prompts to have a majority that is trusted, {probe.trained_on:.0%} one "
        f"with an answer to train on, neither cut off nor too long: about {probe.trained_on * train:.0f} of {train} "
        f"prompts; {probe.headroom:.0%} of the samples still differ from their majority: that much can be learnt",
        f"recall    {_recall_line(config, probe)}",
        f"time      {time_} in {rounds}; training, and stitch where it is on, come on top"
        if probe.mean_tokens
        else f"time      cannot be told for {rounds}: nothing was written",
        *_as_read(probe),
        *(f"warning   {text}" for text in warnings(config, probe)),
    ]


def _recall_line(config: RunConfig, probe: Probe) -> str:
    """The part of recalled answers in a round such as the probe: a vote, none, or the reason that it is unknown."""
    found, settings = probe.recall, config.propose.exemplar
    if found is None:
        return "off: propose.exemplar.k is 0"
    if not enough(found.shown, settings.shots):
        return (
            f"cannot be measured: {found.shown} of {probe.prompts} prompts have a trusted answer (support at least "
            f"propose.exemplar.trust {settings.trust:g}) that others could be shown, {settings.shots + 1} are needed"
        )
    measured = found.independence
    if measured is None:
        return (
            "cannot be measured: no prompt has two samples, two recalled answers and support below "
            f"propose.exemplar.below {settings.below:g}"
        )
    low, high = found.interval or (0.0, 0.0)
    ratio = (
        "samples never agree"
        if measured.ratio is None
        else f"{measured.ratio:.2f} times as often as samples ({low:.2f} to {high:.2f} with 95 %)"
    )
    if measured.harms(settings.agree):
        verdict = f"would be off, because that is below propose.exemplar.agree {settings.agree:g}"
    else:
        verdict = f"would vote, and {found.trusted:.0%} of the prompts have a trusted majority then"
    close = f"; too close to be sure of with {measured.prompts} prompts" if low < settings.agree <= high else ""
    return (
        f"{found.shown} trusted answers shown, {measured.prompts} prompts answered again: recalled answers agree "
        f"{measured.recalled:.2f}, samples {measured.sampled:.2f}, across {measured.between:.2f}, {ratio}: "
        f"{verdict}{close}"
    )


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
    elif probe.trained_on < 0.1:
        found.append(
            f"the votes on {probe.trusted:.0%} of the prompts reach select.threshold {config.select.threshold:g}, but "
            f"only {probe.trained_on:.0%} have a majority answer that is not cut off, and cut-off answers are not "
            "trained on: raise sample.max_new_tokens, or ask for short answers"
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
