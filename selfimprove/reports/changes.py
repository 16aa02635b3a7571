"""What changed on the held-out prompts between two policies, by prompt and by family of prompts.

An answer is a class of responses (see `answers`). Right or wrong is known only where an audit file was given; a prompt
is improved or regressed when more or fewer of its samples are right (mean@k).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..evaluation.families import REST, Family, FamilyMetrics, family_metrics
from ..evaluation.scores import Accuracy
from ..types import Origin, Prompt, Response

SETTLED = 0.5
"""Fraction of the samples above which a prompt's top answer is settled."""


class Change(StrEnum):
    """Change of the fraction of a prompt's samples that are right."""

    IMPROVED = "improved"
    REGRESSED = "regressed"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class AnswerGroup:
    """The samples of one prompt that give one answer; `answer` None: not readable. `right` is None without an audit."""

    answer: str | None
    responses: tuple[int, ...]
    right: int | None


@dataclass(frozen=True, slots=True)
class Side:
    """What one policy answers to one prompt: sampled answers, the most frequent first, and the greedy one.

    `mean` is the fraction of the samples that are right (mean@k); None without an audit.
    """

    groups: tuple[AnswerGroup, ...]
    greedy: AnswerGroup | None
    mean: float | None

    @property
    def top(self) -> AnswerGroup | None:
        """The most frequent readable answer; None if no sample is readable."""
        return next((group for group in self.groups if group.answer is not None), None)

    @property
    def majority(self) -> str | None:
        """Class of the most frequent answer."""
        return self.top.answer if self.top else None

    @property
    def share(self) -> float:
        """Fraction of all samples that give it."""
        samples = sum(len(group.responses) for group in self.groups)
        return len(self.top.responses) / samples if self.top else 0.0

    @property
    def answers(self) -> list[str | None]:
        """Class of each sample."""
        return [group.answer for group in self.groups for _ in group.responses]

    def row(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        groups = [[group.answer, list(group.responses), group.right] for group in self.groups]
        greedy = self.greedy and [self.greedy.answer, list(self.greedy.responses), self.greedy.right]
        return {"groups": groups, "greedy": greedy, "mean": self.mean, "share": round(self.share, 4)}


@dataclass(frozen=True, slots=True)
class PromptChange:
    """One held-out prompt before and after."""

    prompt: Prompt
    family: str
    before: Side
    after: Side

    @property
    def by(self) -> float | None:
        """Change of mean@k; None without an audit."""
        if self.before.mean is None or self.after.mean is None:
            return None
        return self.after.mean - self.before.mean

    @property
    def kind(self) -> Change | None:
        """Whether more or fewer samples are right; None without an audit."""
        if self.by is None:
            return None
        return Change.SAME if self.by == 0 else Change.IMPROVED if self.by > 0 else Change.REGRESSED

    @property
    def changed(self) -> bool:
        """Whether the most frequent answer is another one."""
        return self.before.majority != self.after.majority

    @property
    def open(self) -> bool:
        """Whether no answer has more than half of the samples afterwards."""
        return self.after.share <= SETTLED

    def row(self) -> dict[str, Any]:
        """Return the change ready for JSON, without the two sides."""
        by = None if self.by is None else round(self.by, 4)
        return {"id": self.prompt.id, "kind": self.kind, "by": by, "changed": self.changed, "open": self.open}


@dataclass(frozen=True, slots=True)
class FamilyChange:
    """One family of held-out prompts before and after. The accuracies are None without an audit.

    `mean` holds mean@k accuracy, `greedy` the number of prompts whose greedy answer is right, each before and after;
    `improved`, `regressed` and `changed` count prompts.
    """

    before: FamilyMetrics
    after: FamilyMetrics
    mean: tuple[float, float] | None
    greedy: tuple[int, int] | None
    improved: int
    regressed: int
    changed: int

    @property
    def name(self) -> str:
        """Commonest words of its prompts."""
        return self.after.name

    @property
    def prompts(self) -> int:
        """Number of its measured prompts."""
        return self.after.prompts

    def row(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"name": self.name, "prompts": self.prompts, **asdict(self)}


def sides(
    responses: Mapping[str, Sequence[Response]], answers: Mapping[int, str | None], accuracy: Accuracy | None
) -> dict[str, Side]:
    """Return what a policy answers to each prompt, from its responses by prompt id and the class of each."""
    place = {} if accuracy is None else {id_: row for row, id_ in enumerate(accuracy.prompt_ids)}
    found = {}
    for id_, group in responses.items():
        audited = accuracy if id_ in place else None
        samples: dict[str | None, list[int]] = {}
        for response in group:
            if response.origin is not Origin.GREEDY:
                samples.setdefault(answers.get(response.id), []).append(response.id)
        order = sorted(samples, key=lambda answer: (answer is None, -len(samples[answer])))
        greedy = next((r.id for r in group if r.origin is Origin.GREEDY), None)
        found[id_] = Side(
            tuple(_group(answer, samples[answer], audited) for answer in order),
            None if greedy is None else _greedy_group(answers.get(greedy), greedy, audited, place.get(id_)),
            None if audited is None else float(audited.mean[place[id_]]),
        )
    return found


def _group(answer: str | None, ids: list[int], accuracy: Accuracy | None) -> AnswerGroup:
    right = None if accuracy is None or accuracy.right is None else sum(id_ in accuracy.right for id_ in ids)
    return AnswerGroup(answer, tuple(ids), right)


def _greedy_group(answer: str | None, id_: int, accuracy: Accuracy | None, row: int | None) -> AnswerGroup:
    return AnswerGroup(answer, (id_,), None if accuracy is None or row is None else int(accuracy.greedy[row]))


def family_names(families: Sequence[Family]) -> dict[str, str]:
    """Return the name of each prompt's family, by the prompt's id."""
    return {id_: family.name for family in families for id_ in family.prompt_ids}


def prompt_changes(
    prompts: Sequence[Prompt], families: Mapping[str, str], before: Mapping[str, Side], after: Mapping[str, Side]
) -> list[PromptChange]:
    """Return the change of each prompt that both sides answer: the most regressed first, the most improved last.

    `families` gives the family of each prompt by its id.
    Without an audit, and among equals, those that changed their answer come first, then those most open.
    """
    found = [
        PromptChange(prompt, families.get(prompt.id, REST), before[prompt.id], after[prompt.id])
        for prompt in prompts
        if prompt.id in before and prompt.id in after
    ]
    return sorted(found, key=lambda one: (one.by or 0.0, not one.changed, one.after.share))


def family_changes(
    changes: Sequence[PromptChange], before: Sequence[FamilyMetrics] = (), after: Sequence[FamilyMetrics] = ()
) -> list[FamilyChange]:
    """Return the change of each family: the one that lost most accuracy (without an audit, diversity) first.

    `before` and `after` are the metrics that the guard was given; those of other prompts, or of none, are computed in
    the same way.
    """
    members: dict[str, list[PromptChange]] = {}
    for one in changes:
        members.setdefault(one.family, []).append(one)
    known = [{metrics.name: metrics for metrics in side} for side in (before, after)]
    found = []
    for name, group in members.items():
        family = Family(name, tuple(one.prompt.id for one in group))
        given = [side[name] if name in side and side[name].prompts == len(group) else None for side in known]
        old = given[0] or family_metrics(family, {one.prompt.id: one.before.answers for one in group})
        new = given[1] or family_metrics(family, {one.prompt.id: one.after.answers for one in group})
        if old is not None and new is not None:
            kinds = Counter(one.kind for one in group)
            found.append(
                FamilyChange(
                    before=old,
                    after=new,
                    mean=_means(group),
                    greedy=_greedy(group),
                    improved=kinds[Change.IMPROVED],
                    regressed=kinds[Change.REGRESSED],
                    changed=sum(one.changed for one in group),
                )
            )
    return sorted(found, key=_gain)


def _gain(family: FamilyChange) -> float:
    """Return the smaller change of its two accuracies; without an audit, how much the top answer's share fell."""
    if family.mean is not None:
        greedy = (family.greedy[1] - family.greedy[0]) / family.prompts if family.greedy else 0.0
        return min(family.mean[1] - family.mean[0], greedy)
    return family.before.top_fraction - family.after.top_fraction


def _means(group: Sequence[PromptChange]) -> tuple[float, float] | None:
    pairs = [(one.before.mean, one.after.mean) for one in group]
    known = [(old, new) for old, new in pairs if old is not None and new is not None]
    if not known:
        return None
    return sum(old for old, _ in known) / len(known), sum(new for _, new in known) / len(known)


def _greedy(group: Sequence[PromptChange]) -> tuple[int, int] | None:
    pairs = [(one.before.greedy, one.after.greedy) for one in group]
    known = [(old.right, new.right) for old, new in pairs if old and new]
    if not any(old is not None and new is not None for old, new in known):
        return None
    return sum(old or 0 for old, _ in known), sum(new or 0 for _, new in known)
