"""The figures of a run, derived in one place from its memory, accuracy.json and answers.json, for all that shows them.

Used by the table at the end of a run, summary.json, metrics.jsonl, the HTML report, compare, status and the model card.
Nothing that trains, votes, selects or decides reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.limits import best
from ..evaluation.metrics import METRICS, Health
from ..evaluation.scores import Accuracy, change
from ..memory.operators import operators
from ..outcomes import Decision, Reason
from ..types import BASE, Split, Stage
from .answers import HeldoutAnswers
from .heldout import HeldoutPrompts
from .margins import Fall, Fallen, metric_falls, way_used
from .stored import stored_accuracy, stored_answers, stored_means, stored_summary

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..memory import ResponseMemory

MEASURES = {"mean_at_k": "mean@{k}", "greedy": "greedy", "maj_at_k": "maj@{k}", "pass_at_k": "pass@{k}"}
"""Kind of accuracy -> its short name."""


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One measured or decided round; round 0 is the base. None: not decided, not measured, or no audit file."""

    round: int
    decision: Decision | None
    because: str
    policy: str
    health: dict[str, Any] | None
    """Label-free metrics, by the names of `evaluation.metrics`."""
    checks: tuple[dict[str, Any], ...]
    """The guard's checks: name, value, limit, passed."""
    training: dict[str, Any]
    accuracy: dict[str, float] | None
    """Means over the audited prompts: greedy, mean_at_k, maj_at_k, pass_at_k."""

    @property
    def agreement(self) -> float | None:
        """Mean agreement on the held-out prompts."""
        return None if self.health is None else self.health["agreement"]

    @property
    def row(self) -> dict[str, Any]:
        """The round in brief, ready for JSON: decision, its reason, the policy, agreement and accuracy."""
        return {
            "round": self.round,
            "decision": self.decision,
            "because": self.because,
            "policy": self.policy,
            "agreement": self.agreement,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True)
class Figures:
    """All figures of a run. Accuracy is as of the last report (`accuracy.json`), all else as of now."""

    config: RunConfig
    memory: ResponseMemory
    """Open for reading while the figures are used."""
    rounds: tuple[RoundFigures, ...]
    """The base, then every round in order."""
    per_prompt: Mapping[int, Accuracy]
    """Accuracy per prompt by round; empty without an audit file, and for runs from before accuracy.json."""
    stored: Mapping[str, Any]
    """The last summary.json: the accuracy of runs from before accuracy.json."""
    stored_answers: HeldoutAnswers
    """The last answers.json."""

    @property
    def decided(self) -> tuple[RoundFigures, ...]:
        """The rounds that the guard has decided on."""
        return tuple(one for one in self.rounds if one.decision is not None)

    @property
    def kept(self) -> tuple[RoundFigures, ...]:
        """The rounds that the guard kept."""
        return tuple(one for one in self.decided if one.decision is Decision.KEEP)

    @cached_property
    def final(self) -> int:
        """The round that the current policy was kept with; 0 for the base."""
        return self.memory.standing[-1]

    @property
    def measured(self) -> str:
        """Name of the policy whose accuracy `heldout` gives."""
        if not self.per_prompt:
            return self.stored.get("current", self.memory.current)
        return _policy(self._last_audited)

    @property
    def _last_audited(self) -> int:
        return max((r for r in self.memory.standing if r in self.per_prompt), default=0)

    @cached_property
    def heldout(self) -> dict[str, float] | None:
        """Accuracy of the base and of the current policy, and the change with its 95 % interval; None if unknown."""
        return self.heldout_of(self._last_audited) if self.per_prompt else self.stored.get("heldout")

    def heldout_of(self, round_: int) -> dict[str, float] | None:
        """Return the accuracy of the base and of a round's policy, keyed as in summary.json; None if not audited."""
        if round_ not in self.per_prompt or 0 not in self.per_prompt:
            return None
        old, new = (self.per_prompt[r].means() for r in (0, round_))
        short = {"greedy": "greedy", "maj": "maj_at_k", "pass": "pass_at_k"}
        return {
            "prompts": len(self.per_prompt[0].prompt_ids),
            "before": old["mean_at_k"],
            "after": new["mean_at_k"],
            **_prefixed("diff", self._change(0, round_)),
            **{
                f"{key}_{when}": side[name]
                for key, name in short.items()
                for when, side in (("before", old), ("after", new))
            },
        }

    def _change(self, before: int, after: int) -> dict[str, float]:
        found = change(self.per_prompt[before], self.per_prompt[after], self.config.seed)
        return {"": found.diff, "low": found.low, "high": found.high}

    def kept_before(self, round_: int) -> int:
        """Return the last round kept before `round_`; 0 for the base."""
        return max((one.round for one in self.kept if one.round < round_), default=0)

    @cached_property
    def changes(self) -> dict[int, dict[str, float]]:
        """By audited round, the change of mean@k accuracy from the base and from the last round `kept` before it."""
        found = {}
        for one in self.decided:
            if one.round in self.per_prompt and 0 in self.per_prompt:
                kept = self.kept_before(one.round)
                found[one.round] = _prefixed("from_base", self._change(0, one.round))
                if kept in self.per_prompt:
                    found[one.round] |= {"kept": kept} | _prefixed("from_kept", self._change(kept, one.round))
        return found

    @cached_property
    def prompts(self) -> HeldoutPrompts:
        """The held-out prompts one by one."""
        health = {one.round: Health.of(one.health) for one in self.rounds if one.health is not None}
        return HeldoutPrompts(self.config, self.memory, health, self.per_prompt, self.stored_answers)

    @cached_property
    def shown(self) -> int:
        """The round whose answers are compared with the base's: the current policy's, else the last measured one."""
        return self.final or max(self.prompts.health, default=0)

    def fallen(self, round_: int, *, final: bool = False) -> Fallen | None:
        """Return what got worse in a round against the best kept one before it; None for one that is not measured.

        `final`: against the best of all other kept rounds, for the round that the run ends with.
        """
        health = self.prompts.health
        others = {r: health[r] for r in self._kept_rounds if r != round_ and (final or r < round_)}
        if round_ not in health or 0 not in others:
            return None
        against = best(others, self.config.guard)
        metrics = metric_falls(others[against], health[round_], self._limits(round_))
        return Fallen(round_, against, self._accuracy_falls(round_, against), metrics)

    def _accuracy_falls(self, round_: int, against: int) -> tuple[Fall, ...]:
        by_round = {one.round: one.accuracy for one in self.rounds}
        old, new = by_round[against], by_round[round_]
        if old is None or new is None:
            return ()
        found = [
            Fall(
                f"{MEASURES[name].format(k=self.config.evaluate.k)} accuracy",
                old[name],
                new[name],
                old[name] - new[name],
            )
            for name in MEASURES
            if new[name] < old[name]
        ]
        for one in self.prompts.family_changes(round_, against):
            if one.greedy and one.greedy[1] < one.greedy[0]:
                lost = (one.greedy[0] - one.greedy[1]) / one.prompts
                found.append(Fall(f"greedy right of {one.name!r}", *one.greedy, lost, one.prompts))
        return tuple(sorted(found, key=lambda fall: -fall.fraction))

    def way_used(self, round_: int) -> dict[str, float | None]:
        """Return by metric how much of the way to its limit a round has used up (`margins.way_used`)."""
        health, limits = self.prompts.health, self._limits(round_)
        earlier = [r for r in self._kept_rounds if r < round_]
        if round_ not in health or not earlier:
            return {}
        references = [health[earlier[0]], health[earlier[-1]]]
        return {m.name: way_used(m, references, m.value(health[round_]), limits.get(m.name)) for m in METRICS}

    @property
    def _kept_rounds(self) -> list[int]:
        """The base and the kept rounds, as far as they were measured."""
        return [r for r in (0, *(one.round for one in self.kept)) if r in self.prompts.health]

    def _limits(self, round_: int) -> dict[str, float]:
        return {check["name"]: check["limit"] for one in self.rounds if one.round == round_ for check in one.checks}

    @cached_property
    def agreement(self) -> dict[str, float | None]:
        """Held-out agreement of the base and of the current policy."""
        by_round = {one.round: one.agreement for one in self.rounds}
        return {"before": by_round.get(0), "after": by_round.get(self.final)}

    @cached_property
    def operators(self) -> dict[int, dict[str, dict[str, int]]]:
        """By decided round and operator: candidates, survivors, tokens and so on (`OperatorLedger`)."""
        return {
            one.round: {origin.value: asdict(book) for origin, book in operators(self.memory, one.round).items()}
            for one in self.decided
        }

    @cached_property
    def seconds_by_stage(self) -> dict[str, float]:
        """Seconds of all committed units, by stage."""
        outside = ", ".join(f"'{stage}'" for stage in (Stage.IMPORT, Stage.ADD, Stage.CURATE))
        rows = self.memory.db.rows(
            f"SELECT stage, sum(wall_s) FROM units WHERE stage NOT IN ({outside}) GROUP BY stage ORDER BY min(seq)"
        )
        return {stage: round(seconds, 2) for stage, seconds in rows}

    @cached_property
    def tokens_by_origin(self) -> dict[str, int]:
        """New tokens of the responses of this run, by origin; origins are named like stages."""
        sql = (
            "SELECT r.origin, sum(r.new_tokens) FROM responses r JOIN units u ON u.id = r.unit "
            "WHERE u.stage <> 'import' GROUP BY r.origin"
        )
        return dict(self.memory.db.rows(sql))

    @cached_property
    def prompts_measured(self) -> int:
        """Number of held-out prompts that are evaluated."""
        count = len(self.memory.own_prompts(Split.HELDOUT))
        return min(count, self.config.evaluate.limit or count)

    @property
    def prompts_audited(self) -> int:
        """Number of these whose answer is in the audit file."""
        return int(self.heldout["prompts"]) if self.heldout else 0

    def summary(self) -> dict[str, Any]:
        """Return the content of summary.json, without what only the process knows (time, memory, digest)."""
        found: dict[str, Any] = {
            "run": self.config.name,
            "model": self.config.model.path,
            "current": self.memory.current,
            "rounds_kept": len(self.kept),
            "rounds": [
                {
                    "round": one.round,
                    "decision": one.decision,
                    "because": one.because,
                    "agreement": one.agreement,
                    "operators": self.operators[one.round],
                    **({"accuracy": one.accuracy | self.changes.get(one.round, {})} if one.accuracy else {}),
                }
                for one in self.decided
            ],
            "seconds_by_stage": self.seconds_by_stage,
            "agreement": self.agreement,
        }
        return found | self.what_changed(self.shown) | ({"heldout": self.heldout} if self.heldout else {})

    def what_changed(self, round_: int) -> dict[str, Any]:
        """Return a round's families against the base's, and what fell against the best other kept round; for JSON."""
        if not round_:
            return {}
        fallen = self.fallen(round_, final=True)
        families = [one.row() for one in self.prompts.family_changes(round_)]
        return {"families": families, "fallen": asdict(fallen) if fallen else None}

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl: the base and each decided round."""
        rows = []
        for one in (self.rounds[0], *self.decided):
            row: dict[str, Any] = {"round": one.round}
            if one.decision is not None:
                row |= {"guard/decision": one.decision, "guard/because": one.because}
            row |= {f"health/{name}": value for name, value in (one.health or {}).items()}
            row |= {f"train/{name}": value for name, value in one.training.items() if not isinstance(value, list)}
            row |= {f"audit/{name}": value for name, value in (one.accuracy or {}).items()}
            rows.append(row)
        return rows


def load_figures(folder: Path, memory: ResponseMemory) -> Figures:
    """Return the figures of a run folder whose memory is open.

    Raises:
        UserError: its configuration is missing or cannot be read.
    """
    from ..run.folder import saved_config

    per_prompt = stored_accuracy(folder)
    rounds = round_figures(memory, stored_means(folder, per_prompt))
    return Figures(saved_config(folder), memory, rounds, per_prompt, stored_summary(folder), stored_answers(folder))


def fresh_figures(
    config: RunConfig, memory: ResponseMemory, per_prompt: Mapping[int, Accuracy], answers: HeldoutAnswers
) -> Figures:
    """Return the figures of a run that has just been audited; nothing is read from earlier reports."""
    means = {round_: one.means() for round_, one in per_prompt.items()}
    return Figures(config, memory, round_figures(memory, means), per_prompt, {}, answers)


def round_figures(memory: ResponseMemory, accuracy: Mapping[int, dict[str, float]]) -> tuple[RoundFigures, ...]:
    """Return the base and every round that was measured or decided; `accuracy` gives the means by round."""
    records = {record.round: record for record in memory.rounds()}
    measured = {unit.round for unit in memory.units(stage=Stage.HEALTH)}
    rows = []
    for round_ in sorted({0, *records, *measured}):
        record = records.get(round_)
        rows.append(
            RoundFigures(
                round_,
                record.decision if record else None,
                record.because if record else "",
                record.policy if record else _policy(round_),
                memory.result(round_, Stage.HEALTH),
                tuple((memory.result(round_, Stage.GUARD) or {}).get("checks", ())),
                memory.result(round_, Stage.TRAIN) or {},
                accuracy.get(round_),
            )
        )
    return tuple(rows)


def measured_rounds(folder: Path, memory: ResponseMemory) -> tuple[RoundFigures, ...]:
    """Return the rounds of a run folder with their accuracy; needs no configuration."""
    return round_figures(memory, stored_means(folder, stored_accuracy(folder)))


@dataclass(frozen=True, slots=True)
class Survivors:
    """Number of survivors of a round's selection, of its candidates, and some survivors: id, prompt, response."""

    round: int
    kept: int
    candidates: int
    examples: tuple[tuple[int, str, str], ...]


def survivors(memory: ResponseMemory, examples: int = 5) -> list[Survivors]:
    """Return the survivors of each round that has selected, with up to so many examples, spread over the round."""
    found = []
    for unit in memory.units(stage=Stage.SELECT):
        verdicts = memory.db.rows("SELECT response_id, reason FROM verdicts WHERE unit = ? ORDER BY 1", (unit.id,))
        kept = [id_ for id_, reason in verdicts if reason == Reason.KEPT]
        count = min(examples, len(kept))
        rows = memory.db.rows(
            "SELECT id, prompt, response FROM history WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps([kept[place * len(kept) // count] for place in range(count)]),),
        )
        found.append(Survivors(unit.round, len(kept), len(verdicts), tuple(rows)))
    return found


def _policy(round_: int) -> str:
    return f"r{round_:04d}" if round_ else BASE


def _prefixed(name: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_{key}" if key else name: value for key, value in values.items()}
