"""The format of a revision: rival answers of one's own in view, a verdict on each, then the answer.

Requests, demonstrations and training examples share it, so that a policy is asked for what it was taught. Verdicts and
answer are labelled by the vote over the whole memory, never by the answers in view: copying their majority is not what
is learnt. Related: MACA (arXiv 2509.15172), RSA (2509.26626); hard and easy draws as in AggLM (2509.06870).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from ..models.conversation import ask
from ..outcomes import Tally
from ..run.session import Run
from ..seeds import seed_for
from ..types import Example, Message, Poll, Prompt, Response, Split, Stage
from .units import past_answers

JUDGE = (
    "{question}\n\nThese answers were given before:\n{answers}\n\n"
    "Say of each, in order, whether it is right or wrong. Then answer the question on a new line."
)
CHOOSE = "{question}\n\nThese answers were given before:\n{answers}\n\nAnswer the question. Write only the answer."

_VERDICT = re.compile(r"[^\w\n]{0,3}(?:(\d{1,2})[^\w\n]{0,3}(?:is )?)?(right|wrong|correct|incorrect)\b", re.I)
_BETWEEN = " \t.,;:\n"
_TRIES = 4
"""Sets of rivals that are drawn for each one that is used: hard ones are rare where the vote is clear."""


@dataclass(frozen=True, slots=True)
class Rivals:
    """Readable past answers to a prompt, at least one of them with the consensus and one without.

    `answers` are shown without reasoning; `classes` maps their ids to the class that a vote read, `consensus` is the
    class that won it.
    """

    prompt: Prompt
    answers: tuple[Response, ...]
    classes: Mapping[int, str | None]
    consensus: str

    def draw(self, most: int, *key: object) -> tuple[Response, ...]:
        """Return up to `most` answers drawn with their repetitions, in random order, at least one of either side.

        The draw depends on `key` and the answers, not on their order.
        """
        order = sorted(self.answers, key=lambda r: seed_for(*key, r.id))
        first = [self.agrees(r) for r in order]
        sides = {first.index(side) for side in (True, False) if side in first}
        chosen = sorted(range(len(order)), key=lambda i: i not in sides)[:most]
        return tuple(sorted((order[i] for i in chosen), key=lambda r: seed_for(*key, "order", r.id)))

    def agrees(self, response: Response) -> bool:
        """Return whether an answer is the consensus."""
        return self.classes[response.id] == self.consensus

    def hard(self, shown: Sequence[Response]) -> bool:
        """Return whether another answer than the consensus is shown at least as often."""
        counts = Counter(self.classes[r.id] for r in shown)
        return any(n >= counts[self.consensus] for answer, n in counts.items() if answer != self.consensus)

    def request(self, shown: Sequence[Response], *, verdicts: bool) -> tuple[Message, ...]:
        """Return the conversation that asks for a revision of the answers `shown`."""
        listed = "\n".join(f"{number}. {response.text.strip()}" for number, response in enumerate(shown, start=1))
        form = JUDGE if verdicts else CHOOSE
        return ask(self.prompt, form.format(question=self.prompt.text, answers=listed))

    def revised(self, shown: Sequence[Response], text: str, final: str, *, verdicts: bool) -> str:
        """Return the revision to learn: the verdicts, and `text`, whose part behind its reasoning is `final`."""
        if not verdicts:
            return text
        said = ", ".join("right" if self.agrees(r) else "wrong" for r in shown)
        reasoning = text.removesuffix(final) if text.endswith(final) else ""
        return f"{reasoning}{said}\n{final.strip()}"


@dataclass(frozen=True, slots=True)
class Revised:
    """A revision as read: for each answer shown, whether it is called right (None: nothing is said), and the answer."""

    verdicts: tuple[bool | None, ...]
    answer: str


def read_revision(final: str, shown: int) -> Revised:
    """Read what follows the reasoning of a revision of `shown` answers: verdicts, in order or numbered, and the answer.

    With fewer than two verdicts on one line all of it is the answer, which may itself be "right".
    """
    verdicts: dict[int, bool] = {}
    end = 0
    while match := _VERDICT.match(final, end):
        number = int(match[1]) if match[1] else len(verdicts) + 1
        if not 1 <= number <= shown:
            break
        verdicts.setdefault(number, match[2].lower() in ("right", "correct"))
        end = match.end()
    if len(verdicts) < 2:
        return Revised((None,) * shown, final.strip())
    return Revised(tuple(verdicts.get(n) for n in range(1, shown + 1)), final[end:].lstrip(_BETWEEN).rstrip())


def critic_verdicts(run: Run, round_: int) -> dict[int, list[bool]]:
    """Return what the critiques of all rounds up to this one say of each response: whether it is right."""
    said: dict[int, list[bool]] = {}
    critiques = run.memory.responses(rounds=range(1, round_ + 1), stages=[Stage.CRITIQUE])
    for critique, shown in zip(critiques, answers_shown(run, critiques), strict=True):
        revised = read_revision(run.reader.shown(critique.text), len(shown))
        for parent, right in zip(shown, revised.verdicts, strict=True):
            if right is not None:
                said.setdefault(parent, []).append(right)
    return said


def answers_shown(run: Run, critiques: Sequence[Response]) -> list[tuple[int, ...]]:
    """Return, for each critique, the ids of the answers it judges: its parents that answer its own prompt, in order."""
    parents = {id_ for critique in critiques for id_ in critique.parents}
    prompt_of = {r.id: r.prompt_id for r in run.memory.responses(ids=sorted(parents))}
    return [tuple(id_ for id_ in c.parents if prompt_of.get(id_) == c.prompt_id) for c in critiques]


def rivals_of(
    prompts: Sequence[Prompt],
    groups: Mapping[str, Sequence[Response]],
    classes: Mapping[int, str | None],
    consensus: Mapping[str, str | None],
) -> dict[str, Rivals]:
    """Return the rivals of each prompt that has answers with and without its consensus."""
    found = {}
    for prompt in prompts:
        agreed = consensus.get(prompt.id)
        readable = tuple(r for r in groups.get(prompt.id, ()) if classes.get(r.id) is not None and r.text.strip())
        if agreed is not None and {classes[r.id] == agreed for r in readable} == {True, False}:
            found[prompt.id] = Rivals(prompt, readable, {r.id: classes[r.id] for r in readable}, agreed)
    return found


def past_rivals(
    run: Run, round_: int, prompts: Sequence[Prompt], tallies: Mapping[str, Tally], poll: Poll
) -> dict[str, Rivals]:
    """Return the rivals among all past answers to these prompts, as one vote read them; `tallies` are of that vote."""
    groups, classes = past_answers(run, round_, prompts, poll)
    return rivals_of(prompts, groups, classes, {id_: tally.answer for id_, tally in tallies.items()})


def revision_examples(run: Run, round_: int, direct: Sequence[Example]) -> tuple[Example, ...]:
    """Return revise-format examples of the survivors' prompts: `train.revise.share` of all completion tokens.

    `direct` has an example for each survivor. Each prompt has up to `train.revise.draws` sets of rivals, as many of
    them hard as its answers and `train.revise.easy` allow; the target is one of its survivors. First one set a prompt,
    then a second, until the share is reached.
    """
    config = run.config.train.revise
    if not config.share:
        return ()
    kept: dict[str, list[Example]] = {}
    for example in direct:
        kept.setdefault(example.prompt_id, []).append(example)
    prompts = [prompt for prompt in run.prompts(Split.TRAIN) if prompt.id in kept]
    rivals = past_rivals(run, round_, prompts, run.memory.tallies(round_, Poll.FINAL), Poll.FINAL)
    sets = {
        id_: draws(own, run.config.propose.revise.rivals, config.draws, config.easy, run.config.seed, round_)
        for id_, own in rivals.items()
    }
    tokens = _tokens(run, direct)
    budget = tokens / (1 - config.share) - tokens
    examples: list[Example] = []
    for turn, sets_P in enumerate(zip_longest(*sets.values())):
        for (id_, own), shown in zip(rivals.items(), sets_P, strict=True):
            if shown is None:
                continue
            if budget <= 0:
                return tuple(examples)
            survivor = kept[id_][turn % len(kept[id_])]
            made = _example(run, own, shown, survivor)
            if not fits(run, made):
                continue
            budget -= _tokens(run, [made])
            examples.append(made)
    return tuple(examples)


def draws(rivals: Rivals, most: int, count: int, easy: float, *key: object) -> list[tuple[Response, ...]]:
    """Return up to `count` different sets of `most` rivals, hard ones first among all but a fraction `easy`."""
    tried = {
        tuple(sorted(r.id for r in shown)): shown
        for shown in (
            rivals.draw(most, *key, Stage.TRAIN, rivals.prompt.id, number) for number in range(_TRIES * count)
        )
    }
    hard = [shown for shown in tried.values() if rivals.hard(shown)]
    plain = [shown for shown in tried.values() if not rivals.hard(shown)]
    wanted = min(len(plain), max(round(easy * count), count - len(hard)))
    chosen = [*plain[:wanted], *hard[: count - wanted]]
    return sorted(chosen, key=lambda shown: seed_for(*key, rivals.prompt.id, *(r.id for r in shown)))


def _example(run: Run, rivals: Rivals, shown: Sequence[Response], survivor: Example) -> Example:
    verdicts = run.config.propose.revise.verdicts
    final = run.reader.shown(survivor.completion)
    return replace(
        survivor,
        messages=rivals.request(shown, verdicts=verdicts),
        completion=rivals.revised(shown, survivor.completion, final, verdicts=verdicts),
        rejected=None,
        shown=tuple(r.id for r in shown),
    )


def fits(run: Run, example: Example) -> bool:
    """Return whether an example fits the model's positions, with its rejected side if it has one."""
    sides = [example.completion] if example.rejected is None else [example.completion, example.rejected]
    return all(run.policy.fits(example.messages, 1, side) for side in sides)  # 1: the end of the turn


def _tokens(run: Run, examples: Sequence[Example]) -> int:
    return sum(len(run.policy.encode_completion(example.completion)) for example in examples)
