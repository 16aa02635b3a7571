"""Label-free metrics of a policy on the held-out prompts, and the limits that the guard checks.

`METRICS` is the only definition of each metric's meaning and limit: the guard iterates over it, and the table in
docs/guard.md is generated from it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from ..config import GuardConfig
from ..outcomes import Check
from .families import FamilyMetrics


@dataclass(frozen=True, slots=True)
class Health:
    """Label-free metrics of one policy on the held-out prompts. None: not measured, or not finite.

    The field names are the keys of the stored JSON.
    """

    agreement: float
    """Mean fraction of a prompt's samples that give its majority answer."""
    concentration: float
    """Fraction of the prompts that have the most frequent majority answer."""
    mean_tokens: float
    """Mean length of the samples, in tokens."""
    truncation: float
    """Fraction of the samples truncated at `max_new_tokens`."""
    parse_rate: float
    """Fraction of the samples with a readable answer."""
    kl: float | None
    """KL(policy || base) on fixed completions of the base, in nats a token; None for the base."""
    base_majority_share: float | None = None
    """Fraction of the samples that give the majority answer of the base's samples with other seeds."""
    finished_tokens: float | None = None
    """Mean length of the samples that ended by themselves, in tokens; None if fewer than one in twenty did."""
    question_echo: float | None = None
    """Fraction of the readable answers whose words all stand in the question; None if all prompts offer options."""
    families: tuple[FamilyMetrics, ...] | None = None
    """Metrics of each family of held-out prompts."""
    family_rise: float | None = None
    """Rise over the base of the fraction of a family's prompts that have its top answer: `families.rise`."""
    family_fall: float | None = None
    """Fall from the base of the fraction of a family's samples in the base's majority: `families.fall`."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Return the metrics from their stored JSON, of this version or an earlier one, which had more of them."""
        families = stored.get("families")
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        return cls(**known | {"families": families and tuple(FamilyMetrics(**row) for row in families)})


Limit = Callable[[Health, Sequence[Health], GuardConfig], float | None]
"""Limit from the base, the kept rounds (base included) and the settings; None: no reference value, so no check."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that the guard checks: its value and limit, and their description for the documentation."""

    name: str
    """Name in messages and in the stored verdicts."""
    value: Callable[[Health], float | None]
    limit: Limit
    is_minimum: bool
    """Whether values below the limit fail; otherwise values above it do."""
    rule: str
    """The limit as a formula, in Markdown."""
    meaning: str
    healthy: str
    red_flag: str
    advice: str
    """What to change for another run when a round fails this check."""

    def check(self, kept: Sequence[Health], now: Health, limits: GuardConfig) -> Check | None:
        """Return the check of `now`, or None if there is no limit. A value that is None or NaN fails."""
        limit = self.limit(kept[0], kept, limits)
        if limit is None:
            return None
        value = self.value(now)
        known = value is not None and value == value  # NaN differs from itself
        margin = 0.0 if value is None else (value - limit if self.is_minimum else limit - value)
        return Check(self.name, value if known else None, limit, known and margin >= -_ROUNDING)


ALL_CUT = 0.95
"""Fraction of truncated samples above which the length of those that ended is unknown."""
_ROUNDING = 1e-9
"""Tolerance: a value equal to its limit up to rounding passes."""


def _best(values: Iterable[float | None]) -> float | None:
    """Return the maximum of the known values; None if there is none (the check is skipped)."""
    return max((value for value in values if value is not None), default=None)


def _plus(value: float | None, rise: float) -> float | None:
    return None if value is None else value + rise


def _shortest(base: Health, factor: float) -> float | None:
    """Return the limit from the base's samples that ended (older memories: from all); None where hardly any did."""
    if base.finished_tokens is not None:
        return base.finished_tokens / factor
    return None if base.truncation > ALL_CUT else base.mean_tokens / factor


FAMILY_METRIC = "top answer of a family"
FAMILY_BASE_METRIC = "base majority of a family"

_SMALLER_STEPS = "smaller steps: train.lr=1e-4, or train.epochs=1"
_LABELS_OF_THE_BASE = "smaller steps and votes of the base alone: train.lr=1e-4 vote.labels=base"
_SURER_LABELS = "surer labels: select.threshold=0.7, or more samples to vote: sample.k=16"
_CALIBRATION = (
    "votes divided by how often an answer wins near prompts: vote.calibration=1; shuffle options that prompts offer"
)
_CLOSER_TO_BASE = (
    "more weight on the base: train.beta=0.1 (preference pairs: train.dpo_beta=0.3), or smaller steps: train.lr=1e-4"
)
_ROOM = "room for whole answers: `selfimprove init` finds sample.max_new_tokens, or ask for short ones in the prompts"

METRICS = (
    Metric(
        "agreement",
        lambda h: h.agreement,
        lambda base, kept, g: kept[-1].agreement - g.agreement_drop,
        is_minimum=True,
        rule="last kept - `agreement_drop`",
        meaning="mean fraction of a prompt's samples that give its majority answer",
        healthy="rises each round, then flattens",
        red_flag="falls: less certain everywhere; near 1 while the top answer share rises: collapse",
        advice=_SMALLER_STEPS,
    ),
    Metric(
        "samples in base majority",
        lambda h: h.base_majority_share,
        lambda base, kept, g: _plus(_best(h.base_majority_share for h in kept), -g.base_share_drop),
        is_minimum=True,
        rule="best of base and kept - `base_share_drop`",
        meaning="fraction of the samples that give the majority answer of the base's samples with other seeds",
        healthy="rises with agreement",
        red_flag="falls: earlier gains are lost, to noise or to drift",
        advice=_LABELS_OF_THE_BASE,
    ),
    Metric(
        "top answer share",
        lambda h: h.concentration,
        lambda base, kept, g: base.concentration + g.concentration_rise,
        is_minimum=False,
        rule="base + `concentration_rise`",
        meaning="fraction of the prompts that have the most frequent majority answer",
        healthy="stays where the base has it",
        red_flag="rises: one answer to all prompts, the collapse of Shafayat et al. 2025",
        advice=_CALIBRATION,
    ),
    Metric(
        "question echo",
        lambda h: h.question_echo,
        lambda base, kept, g: _plus(base.question_echo, g.echo_rise),
        is_minimum=False,
        rule="base + `echo_rise`",
        meaning="fraction of the readable answers whose words all stand in the question, where it offers no options",
        healthy="rises by some hundredths, falls where votes discount echoes",
        red_flag='rises: "the opposite of sharp" is "sharp", a certainty without knowledge that raises agreement',
        advice="votes that discount echoes more: vote.echo=1; or prompts that say what form of answer is meant",
    ),
    Metric(
        FAMILY_METRIC,
        lambda h: h.family_rise,
        lambda base, kept, g: None if base.families is None else g.family_rise,
        is_minimum=False,
        rule="`family_rise`",
        meaning="rise over the base of the fraction of a family's prompts that have its most frequent majority answer, "
        "in the families where it rose most, as many as hold over a tenth of the prompts",
        healthy="rises by some hundredths where the base errs at random",
        red_flag="rises: one kind of question gets one answer, which the top answer over all prompts hides",
        advice=_CALIBRATION,
    ),
    Metric(
        FAMILY_BASE_METRIC,
        lambda h: h.family_fall,
        lambda base, kept, g: g.family_fall if any(f.base_share is not None for f in base.families or ()) else None,
        is_minimum=False,
        rule="`family_fall`",
        meaning="fall from the base of the fraction of a family's samples that give the base's majority answer, in the "
        "families where it fell most, as many as hold over a tenth of the prompts, among those where the base's was "
        "0.4 or more",
        healthy="0: where the base is sure, the policy agrees with it",
        red_flag="rises: one kind of question is answered otherwise than the base was sure of",
        advice=_LABELS_OF_THE_BASE,
    ),
    Metric(
        "parse rate",
        lambda h: h.parse_rate,
        lambda base, kept, g: base.parse_rate - g.parse_drop,
        is_minimum=True,
        rule="base - `parse_drop`",
        meaning="fraction of the samples with a readable answer",
        healthy="rises to about 1",
        red_flag="falls: the answer format is lost",
        advice=_ROOM,
    ),
    Metric(
        "mean tokens, shortest",
        lambda h: h.mean_tokens if h.finished_tokens is None else h.finished_tokens,
        lambda base, kept, g: _shortest(base, g.length_factor),
        is_minimum=True,
        rule="base / `length_factor`, where at least one in twenty of the base's ended",
        meaning="mean length of the samples that ended by themselves, in tokens: a base that is cut off seldom ends",
        healthy="falls a little where the base is verbose",
        red_flag="a fraction of the base's: the reasoning is dropped",
        advice=_CLOSER_TO_BASE,
    ),
    Metric(
        "mean tokens, longest",
        lambda h: h.mean_tokens,
        lambda base, kept, g: base.mean_tokens * g.length_factor,
        is_minimum=False,
        rule="base x `length_factor`",
        meaning="mean length of the samples, in tokens",
        healthy="at or below the base's",
        red_flag="a multiple of the base's: length blow-up",
        advice=_ROOM,
    ),
    Metric(
        "truncation",
        lambda h: h.truncation,
        lambda base, kept, g: base.truncation + g.truncation_rise,
        is_minimum=False,
        rule="base + `truncation_rise`",
        meaning="fraction of the samples truncated at `sample.max_new_tokens`",
        healthy="falls",
        red_flag="rises: the model no longer ends its turn",
        advice=_ROOM,
    ),
    Metric(
        "KL to base",
        lambda h: h.kl,
        lambda base, kept, g: g.kl,
        is_minimum=False,
        rule="`kl`",
        meaning="KL divergence of the policy from the base on fixed completions of the base, in nats a token",
        healthy="some tenths of a nat",
        red_flag="several nats: a different model",
        advice=_CLOSER_TO_BASE,
    ),
)
"""The metrics that the guard checks, in the order of the checks of a verdict."""
