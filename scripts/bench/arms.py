"""The arms: ways to learn, all through the package's one loop.

An arm is a file of configs/arms/ and, in the bench alone, what is done to its votes or to its training examples. So the
package has no setting that nobody would want, and nothing in it sees an answer.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import yaml

from selfimprove.config import RunConfig
from selfimprove.config_file import parse_config
from selfimprove.engines.engine import TrainingJob
from selfimprove.engines.local import LocalEngine
from selfimprove.evaluation.answer_key import Key, is_right
from selfimprove.fsio import write_json
from selfimprove.memory import ResponseMemory
from selfimprove.run.session import Run
from selfimprove.seeds import seed_for
from selfimprove.types import BASE, Example, Finish, Generation, Judgement, Request, Response, Tally, Unit

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "arms"

Vote = tuple[list[Tally], list[Judgement]]
"""What the loop counted: a tally a prompt, a judgement a response."""


@dataclass(frozen=True)
class Arm:
    """A way to learn: `vote` and `examples` replace what the loop counted and what it is about to train on."""

    name: str
    config: str
    vote: Callable[[Vote, Mapping[int, Response], Mapping[str, Key], Random], Vote] | None = None
    examples: Callable[[list[Example]], list[Example]] = lambda examples: examples


def first(vote: Vote, responses: Mapping[int, Response], keys: Mapping[str, Key], rng: Random) -> Vote:
    """The first answer to each prompt wins, whatever the others say: training on raw samples (SSD)."""
    tallies, judgements = vote
    winner: dict[str, int] = {}
    for id_, response in sorted(responses.items()):
        winner.setdefault(response.prompt_id, id_)
    won = [  # two voters: select asks for as many
        replace(t, answer=t.prompt_id, agreement=1.0, margin=1.0, voters=2, abstained=0) for t in tallies
    ]
    return won, [
        replace(j, answer=prompt_id if winner[prompt_id] == j.response_id else "another", share=1.0)
        for j in judgements
        for prompt_id in (responses[j.response_id].prompt_id,)
    ]


def audited(vote: Vote, responses: Mapping[int, Response], keys: Mapping[str, Key], rng: Random) -> Vote:
    """The right answer wins every prompt: what training on a reward for being right would give."""
    tallies, judgements = vote
    won = [replace(t, answer=t.prompt_id, agreement=1.0, margin=1.0, abstained=0) for t in tallies]
    right = {id_ for id_, response in responses.items() if is_right(response.text, keys[response.prompt_id])}
    return won, [
        replace(j, answer=responses[j.response_id].prompt_id, share=1.0) if j.response_id in right else j
        for j in judgements
    ]


def dealt(vote: Vote, responses: Mapping[int, Response], keys: Mapping[str, Key], rng: Random) -> Vote:
    """Each prompt gets another prompt's agreement, and an answer drawn from those that were given to it wins.

    As many prompts pass as by the vote itself, but neither which nor with what answer says anything.
    """
    tallies, judgements = vote
    given: dict[str, list[str]] = {t.prompt_id: [] for t in tallies}
    for judgement in judgements:
        answers = given[responses[judgement.response_id].prompt_id]
        if judgement.answer is not None and judgement.answer not in answers:
            answers.append(judgement.answer)
    others = rng.sample(tallies, len(tallies))
    return [
        replace(other, prompt_id=t.prompt_id, answer=rng.choice(given[t.prompt_id]) if given[t.prompt_id] else None)
        for t, other in zip(tallies, others, strict=True)
    ], judgements


def flipped(examples: list[Example]) -> list[Example]:
    """The least agreed answer is preferred to the most agreed one; examples without a rival are left out."""
    return [replace(e, completion=e.rejected, rejected=e.completion) for e in examples if e.rejected is not None]


ARMS = {
    arm.name: arm
    for arm in (
        Arm("ours", "ours"),
        Arm("lmsi", "lmsi"),
        Arm("scpo", "scpo"),
        *(Arm(name, name) for name in ("ours-no-exemplar", "ours-no-pooling", "ours-no-kl")),
        *(Arm(name, name) for name in ("ours-revise", "ours-stitch")),
        Arm("ssd", "lmsi", vote=first),
        Arm("random-vote", "lmsi", vote=dealt),
        Arm("oracle", "lmsi", vote=audited),
        Arm("flipped-pairs", "scpo", examples=flipped),
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
    """Return a nested mapping in which what `above` says holds."""
    both = {
        key: merged(below[key], value) if isinstance(value, Mapping) and isinstance(below.get(key), Mapping) else value
        for key, value in above.items()
    }
    return {**below, **both}


class NothingLeft(Exception):
    """An arm has nothing to train on: its policy stays as it was."""


class Replaced:
    """A memory that commits what an arm makes of each vote; everything else is the memory's own."""

    def __init__(self, memory: ResponseMemory, arm: Arm, keys: Mapping[str, Key], seed: int) -> None:
        """Stand before `memory`."""
        self.memory, self.arm, self.keys, self.seed = memory, arm, keys, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    def commit_vote(
        self, round_: int, judgements: Sequence[Judgement], tallies: Sequence[Tally], *, index: int, **rest: Any
    ) -> None:
        """Commit the arm's vote."""
        assert self.arm.vote is not None
        responses = {r.id: r for r in self.memory.responses(ids=[j.response_id for j in judgements])}
        rng = Random(seed_for(self.seed, self.arm.name, round_))  # one draw a round: its votes agree
        tallies, judgements = self.arm.vote((list(tallies), list(judgements)), responses, self.keys, rng)
        self.memory.commit_vote(round_, judgements, tallies, index=index, **rest)


class Shared(LocalEngine):
    """The engine of a cell.

    An answer of the frozen base is a function of its request and seed, so arms that ask for the same one share it: it
    is kept in `folder`, one file a unit, and counts as generated by each of them. Training is fitted to a number of
    completion tokens, the same for all arms.
    """

    def __init__(self, engine: LocalEngine, arm: Arm, folder: Path, trained_tokens: int) -> None:
        """Take the place of `engine`."""
        super().__init__(engine.policy, engine.adapter_of, engine.batch_size)
        self.arm, self.folder, self.trained_tokens = arm, folder, trained_tokens
        self.known: dict[str, Generation] = {}
        for file in sorted(folder.glob("*.json")):
            rows = json.loads(file.read_text(encoding="utf-8"))
            self.known |= {key: Generation(**row | {"finish": Finish(row["finish"])}) for key, row in rows.items()}

    def answer(self, unit: Unit, on_tokens: Any = None) -> list[Generation]:
        """Return one generation for each request; those of the base that are known are not made again."""
        if unit.policy != BASE:
            return super().answer(unit, on_tokens)
        keys = [_key(self.policy.fingerprint, unit, request) for request in unit.requests]
        missing = {key: request for key, request in zip(keys, unit.requests, strict=True) if key not in self.known}
        if missing:
            made = super().answer(replace(unit, requests=tuple(missing.values())), on_tokens)
            fresh = dict(zip(missing, made, strict=True))
            write_json(self.folder / f"{min(fresh)}.json", {key: asdict(made) for key, made in fresh.items()})
            self.known |= fresh
        return [self.known[key] for key in keys]

    def train(self, job: TrainingJob, out: Path, on_step: Any = None) -> Any:
        """Train on what the arm makes of the examples, for as many tokens as every arm.

        Raises:
            NothingLeft: it leaves none.
        """
        chosen = self.arm.examples(list(job.examples))
        if not chosen:
            raise NothingLeft(f"{self.arm.name} leaves none of the {len(job.examples)} examples")
        sizes = [self._size(example) for example in chosen]
        order, epochs = fit(sizes, self.trained_tokens, Random(job.seed))
        spec = job.spec.model_copy(update={"epochs": epochs})
        return super().train(replace(job, examples=tuple(chosen[i] for i in order), spec=spec), out, on_step)

    def _size(self, example: Example) -> int:
        """Completion tokens that the loss sees, a rejected completion's included."""
        texts = (example.completion, *(() if example.rejected is None else (example.rejected,)))
        return sum(len(self.policy.encode_completion(text)) for text in texts)


def fit(sizes: Sequence[int], budget: int, rng: Random) -> tuple[list[int], int]:
    """Return which examples to take, some of them twice, and for how many epochs, to train on `budget` tokens.

    As many whole epochs as fit; what they leave over is filled with examples drawn a second time. If one epoch is too
    much already, examples drawn at random are left out. At most half an example is missing or too much an epoch.
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


def equip(run: Run, arm: Arm, keys: Mapping[str, Key], answers: Path, trained_tokens: int) -> Run:
    """Return the run as this arm has it."""
    memory: Any = run.memory if arm.vote is None else Replaced(run.memory, arm, keys, run.config.seed)
    return replace(run, memory=memory, engine=Shared(run.engine, arm, answers, trained_tokens))


def _key(model: str, unit: Unit, request: Request) -> str:
    """Name an answer by all that it depends on."""
    turns = [(m.role, m.content) for m in request.messages]
    return blake2b(
        repr((model, unit.sampling, turns, request.prefix, request.seed)).encode(), digest_size=12
    ).hexdigest()
