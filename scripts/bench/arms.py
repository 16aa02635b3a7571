"""The arms: methods to compare, all through the package's loop.

An arm is a configuration of configs/arms/ and, in the bench alone, other labels or training examples than the package's
own (`selfimprove.stages.method.Method`).
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import later_rounds
import yaml

from selfimprove.config import RunConfig
from selfimprove.config_file import parse_config
from selfimprove.engines.engine import Engine, OnStep, OnTokens, TrainingJob
from selfimprove.evaluation.answer_key import is_right, load_audit
from selfimprove.fsio import write_json
from selfimprove.models.policy import Policy
from selfimprove.outcomes import Selection
from selfimprove.run.session import Run
from selfimprove.seeds import seed_for
from selfimprove.stages.guard import with_care
from selfimprove.stages.method import Method
from selfimprove.stages.train import imitate
from selfimprove.stages.vote import Ballot, Labels, Votes, divisors, majority
from selfimprove.training import TrainReport
from selfimprove.types import BASE, Example, Finish, Generation, Origin, Request, Unit

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "arms"

Settings = Callable[[Run, int], Run]
"""From a run and a round to the run as it is in that round."""


@dataclass(frozen=True)
class Arm:
    """A method to compare: a configuration of configs/arms/, its labels, and a function of its examples.

    `more` gives the examples of a run's round beside those of the survivors; `settings` the run as it is in a round.
    """

    name: str
    config: str
    labels: Labels = majority
    examples: Callable[[list[Example]], list[Example]] = list
    more: Callable[[Run, int], list[Example]] = lambda run, round_: []
    settings: Settings = with_care
    untrained: frozenset[Origin] = frozenset()
    """Origins of responses that vote and are not trained on."""
    matches: str | None = None
    """The arm whose generated tokens it spends, by more samples; None: those of `ours`."""

    def method(self, trained_tokens: int, settings: Settings | None = None) -> Method:
        """Return the arm as `improve` takes it, trained on about `trained_tokens` completion tokens a round."""

        def job(run: Run, round_: int, selection: Selection) -> TrainingJob:
            dropped = {r.id for r in run.memory.responses(origins=self.untrained)}
            taught = replace(selection, kept=tuple(v for v in selection.kept if v.response_id not in dropped))
            made = imitate(run, round_, taught)
            chosen = tuple(self.examples([*made.examples, *self.more(run, round_)]))
            return budgeted(replace(made, examples=chosen), run.policy, trained_tokens)

        return Method(settings or self.settings, self.labels, job)


def first(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Label each prompt with its first answer: training on raw samples (SSD)."""
    tallies, judgements = majority(run, round_, ballots_P)
    prompt_of = _prompt_of(ballots_P)
    winners = {min(ballot.response_id for ballot in ballots) for ballots in ballots_P.values()}
    won = [  # select wants at least two voters
        replace(t, answer=t.prompt_id, agreement=1.0, margin=1.0, voters=2, abstained=0) for t in tallies
    ]
    return won, [
        replace(j, answer=prompt_of[j.response_id] if j.response_id in winners else "another", share=1.0)
        for j in judgements
    ]


def audited(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Label each prompt with the right answer: an oracle's upper bound, as with a verifiable reward."""
    tallies, judgements = majority(run, round_, ballots_P)
    assert run.config.prompts.audit is not None
    keys = load_audit(run.config.prompts.audit)
    responses = run.memory.responses(ids=[j.response_id for j in judgements])
    right = {r.id: r.prompt_id for r in responses if is_right(r.text, keys[r.prompt_id])}
    won = [replace(t, answer=t.prompt_id, agreement=1.0, margin=1.0, abstained=0) for t in tallies]
    return won, [
        replace(j, answer=right[j.response_id], share=1.0) if j.response_id in right else j for j in judgements
    ]


def doubted(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Majority vote in which an echo that wins has its agreement divided too: what it loses counts as doubt.

    `majority` divides the votes for echoes before the winner is taken, so a unanimous echo keeps an agreement of 1.
    """
    tallies, judgements = majority(run, round_, ballots_P)
    priors = divisors(run, round_, ballots_P)  # with the defaults, of echoes alone
    return [
        replace(t, agreement=t.agreement / priors.get(t.prompt_id, {}).get(t.answer or "", 1.0)) for t in tallies
    ], judgements


def dealt(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Label each prompt with an answer drawn from its own, and the agreement of another prompt, drawn at random.

    As many prompts pass the threshold as by the majority vote, but neither which prompts nor their labels carry
    information: the random control.
    """
    tallies, judgements = majority(run, round_, ballots_P)
    rng = Random(seed_for(run.config.seed, "random-vote", round_))  # the same draw in each vote of a round
    prompt_of = _prompt_of(ballots_P)
    given: dict[str, list[str]] = {t.prompt_id: [] for t in tallies}
    for judgement in judgements:
        answers = given[prompt_of[judgement.response_id]]
        if judgement.answer is not None and judgement.answer not in answers:
            answers.append(judgement.answer)
    others = rng.sample(tallies, len(tallies))
    return [
        replace(other, prompt_id=t.prompt_id, answer=rng.choice(given[t.prompt_id]) if given[t.prompt_id] else None)
        for t, other in zip(tallies, others, strict=True)
    ], judgements


def _prompt_of(ballots_P: Mapping[str, Sequence[Ballot]]) -> dict[int, str]:
    return {ballot.response_id: prompt_id for prompt_id, ballots in ballots_P.items() for ballot in ballots}


def flipped(examples: list[Example]) -> list[Example]:
    """Swap chosen and rejected: the least agreed answer is preferred; examples without a rejected side are left out."""
    return [replace(e, completion=e.rejected, rejected=e.completion) for e in examples if e.rejected is not None]


ARMS = {
    arm.name: arm
    for arm in (
        Arm("ours", "ours"),
        Arm("ours-doubt", "ours", labels=doubted),
        Arm("lmsi", "lmsi"),
        Arm("scpo", "scpo"),
        *(Arm(name, name) for name in ("ours-no-exemplar", "ours-no-echo", "ours-no-pooling", "ours-no-kl")),
        *(
            Arm(name, name)
            for name in (
                "ours-revise",
                "ours-revise-train",
                "ours-verdicts-train",
                "ours-revise-shown",
                "ours-critic",
            )
        ),
        Arm("ours-more", "ours", matches="ours-revise"),
        Arm("ours-pairs", "ours-pairs", untrained=frozenset({Origin.REVISE})),
        *(Arm(name, name) for name in ("ours-stitch", "ours-steps")),
        *(Arm(name, name) for name in ("ours-calibrated", "ours-random-recall")),
        Arm("ssd", "lmsi", labels=first),
        Arm("random-vote", "lmsi", labels=dealt),
        Arm("oracle", "lmsi", labels=audited),
        Arm("flipped-pairs", "scpo", examples=flipped),
        Arm("scrl", "scpo", labels=later_rounds.gated, more=later_rounds.negatives),
        Arm("slow-labels", "lmsi", labels=later_rounds.taught_votes, settings=later_rounds.with_teacher),
    )
}


def configure(arm: Arm, settings: Mapping[str, Any], changes: Sequence[str]) -> RunConfig:
    """Return the settings of a run: defaults < the task's < the arm's < `changes`, each `a.b=c`.

    Raises:
        ConfigError: a key or value is wrong.
    """
    path = FOLDER / f"{arm.config}.yaml"
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    del own["prompts"]
    tree = merged(merged(settings, own), {"name": arm.name})
    for change in changes:
        key, _, text = change.partition("=")
        node = yaml.safe_load(text)
        for part in reversed(key.split(".")):
            node = {part: node}
        tree = merged(tree, node)
    return parse_config(tree)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one, in which values of `above` replace those of `below`."""
    both = {
        key: merged(below[key], value) if isinstance(value, Mapping) and isinstance(below.get(key), Mapping) else value
        for key, value in above.items()
    }
    return {**below, **both}


class Cached:
    """An engine whose frozen base answers each request once for all arms that share a folder.

    A generation of the base is a function of its request and seed. It is kept in `folder`, one file a unit, and counts
    as generated by each arm.
    """

    def __init__(self, engine: Engine, model: str, folder: Path) -> None:
        """Wrap `engine`; `model` is the fingerprint of its base."""
        self.engine, self.model, self.folder = engine, model, folder
        self.known: dict[str, Generation] = {}
        for file in sorted(folder.glob("*.json")):
            rows = json.loads(file.read_text(encoding="utf-8"))
            self.known |= {key: Generation(**row | {"finish": Finish(row["finish"])}) for key, row in rows.items()}

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with its generations; those of the base that are known are not made again."""
        for unit in units:
            yield unit, self._answer(unit, on_tokens)

    def _answer(self, unit: Unit, on_tokens: OnTokens | None) -> list[Generation]:
        if unit.policy != BASE:
            return self._made(unit, on_tokens)
        keys = [_key(self.model, unit, request) for request in unit.requests]
        missing = {key: request for key, request in zip(keys, unit.requests, strict=True) if key not in self.known}
        if missing:
            made = self._made(replace(unit, requests=tuple(missing.values())), on_tokens)
            fresh = dict(zip(missing, made, strict=True))
            write_json(self.folder / f"{min(fresh)}.json", {key: asdict(made) for key, made in fresh.items()})
            self.known |= fresh
        return [self.known[key] for key in keys]

    def _made(self, unit: Unit, on_tokens: OnTokens | None) -> list[Generation]:
        ((_, made),) = self.engine.generate([unit], on_tokens)
        return made

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train as the wrapped engine does."""
        return self.engine.train(job, out, on_step)

    def model_here(self) -> Policy:
        """Return the wrapped engine's model."""
        return self.engine.model_here()

    def close(self) -> None:
        """Close the wrapped engine."""
        self.engine.close()


def budgeted(job: TrainingJob, policy: Policy, trained_tokens: int) -> TrainingJob:
    """Return the job with examples and epochs such that it trains on about `trained_tokens` completion tokens."""
    if not job.examples:
        return job
    order, epochs = fit([_size(policy, example) for example in job.examples], trained_tokens, Random(job.seed))
    spec = job.spec.model_copy(update={"epochs": epochs})
    return replace(job, examples=tuple(job.examples[i] for i in order), spec=spec)


def _size(policy: Policy, example: Example) -> int:
    """Completion tokens that the loss sees, a rejected completion's included."""
    texts = (example.completion, *(() if example.rejected is None else (example.rejected,)))
    return sum(len(policy.encode_completion(text)) for text in texts)


def fit(sizes: Sequence[int], budget: int, rng: Random) -> tuple[list[int], int]:
    """Return the indices of examples (repeats allowed) and the epochs that train on about `budget` tokens.

    As many whole epochs as fit; the remainder is filled with repeated examples. If one epoch exceeds the budget,
    examples are left out at random. The error is at most half an example an epoch.
    """
    epochs = max(1, budget // sum(sizes))
    left = budget / epochs
    order = rng.sample(range(len(sizes)), len(sizes))
    taken = []
    for i in itertools.cycle(order):
        if sizes[i] / 2 > left:
            break
        taken.append(i)
        left -= sizes[i]
    return sorted(taken or order[:1]), epochs


def _key(model: str, unit: Unit, request: Request) -> str:
    """Return the cache key of a generation: a hash of all that it depends on."""
    turns = [(m.role, m.content) for m in request.messages]
    return blake2b(
        repr((model, unit.sampling, turns, request.prefix, request.seed)).encode(), digest_size=12
    ).hexdigest()
