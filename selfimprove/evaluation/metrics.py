"""What a policy's answers to the held-out prompts look like, without knowing which are right, and what is watched.

`SIGNS` is the one place that says what each number means and where its limit lies: the guard goes through it, and
docs/guard.md is made from it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..config import GuardConfig
from ..types import Check


@dataclass(frozen=True, slots=True)
class Health:
    """Label-free measurements of one policy. None: not measured (or, for a policy that broke, not a number)."""

    agreement: float
    """Mean share of a prompt's samples that give its top answer."""
    base_majority_agreement: float | None
    """Share of the prompts whose greedy answer is the majority answer of the frozen base; None where it has none."""
    concentration: float
    """Share of the prompts that the most frequent majority answer wins."""
    answer_entropy: float
    """Mean entropy of the answers to a prompt, in nats."""
    unique_answers: float
    """Mean number of different answers to a prompt."""
    distinct_2: float
    """Unique over all word bigrams of the samples."""
    mean_tokens: float
    p95_tokens: float
    truncation: float
    """Share of the samples cut at `max_new_tokens`."""
    repetition: float
    """Mean share of a sample's n-grams that repeat an earlier one."""
    parse_rate: float
    """Share of the samples whose answer can be read."""
    kl: float | None
    """KL(policy || base) on fixed completions of the base, in nats a token; None for the base itself."""
    human_nll: float | None
    """Negative log likelihood of a fixed human-written text, in nats a token."""
    spread: float | None = None
    """Entropy of the majority answers over log(prompts): 1 when each prompt has its own, 0 when all share one."""
    dispersion: float | None = None
    """Mean distance, 1 - cosine, between the embedded answers to different prompts."""
    base_majority_share: float | None = None
    """Share of the samples that give the majority answer of the frozen base."""
    echo: float | None = None
    """Largest share of the round's survivors that descend from one response; None where only a handful do."""


Limit = Callable[[Health, Sequence[Health], GuardConfig], float | None]
"""From the base, all kept rounds (the base first) and the settings to a limit; None: nothing to hold it against."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One number that is watched: where its limit is and, for the documentation, how to read it."""

    name: str
    value: Callable[[Health], float | None]
    limit: Limit
    least: bool
    """Whether the limit is a floor; else it is a ceiling."""
    rule: str
    meaning: str
    healthy: str
    red_flag: str

    def check(self, kept: Sequence[Health], now: Health, limits: GuardConfig) -> Check | None:
        """Return the check of one policy, or None without a limit. An unknown value, NaN included, fails."""
        limit = self.limit(kept[0], kept, limits)
        if limit is None:
            return None
        value = self.value(now)
        known = value is not None and value == value  # NaN differs from itself
        margin = 0.0 if value is None else (value - limit if self.least else limit - value)
        return Check(self.name, value if known else None, limit, known and margin >= -_ROUNDING)


_ROUNDING = 1e-9
"""A value at its limit passes, whatever the last bit says."""


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _best(values: Iterable[float | None]) -> float | None:
    """The highest of those that are known; None: none is, and what was never measured is not checked."""
    return max((value for value in values if value is not None), default=None)


def _plus(value: float | None, rise: float) -> float | None:
    return None if value is None else value + rise


SIGNS = (
    Sign(
        "agreement",
        lambda h: h.agreement,
        lambda base, kept, g: kept[-1].agreement - g.agreement_drop,
        least=True,
        rule="last kept - `agreement_drop`",
        meaning="mean share of a prompt's samples that give its top answer",
        healthy="rises each round, then flattens",
        red_flag="falls: the policy is less sure of anything; near 1 while the top answer share rises: collapse",
    ),
    Sign(
        "agreement with base majority",
        lambda h: h.base_majority_agreement,
        lambda base, kept, g: _plus(_best(h.base_majority_agreement for h in kept), -g.base_majority_drop),
        least=True,
        rule="best of base and kept - `base_majority_drop`",
        meaning="share of the prompts whose greedy answer is the majority answer of the frozen base",
        healthy="rises: greedy learns what the base says most often",
        red_flag="falls: the policy drifts to answers that the base never agreed on",
    ),
    Sign(
        "samples in base majority",
        lambda h: h.base_majority_share,
        lambda base, kept, g: _plus(_best(h.base_majority_share for h in kept), -g.base_share_drop),
        least=True,
        rule="best of base and kept - `base_share_drop`",
        meaning="share of the samples that give the majority answer of the frozen base",
        healthy="rises with agreement",
        red_flag="falls: what was gained is being lost, by noise or by drift",
    ),
    Sign(
        "top answer share",
        lambda h: h.concentration,
        lambda base, kept, g: base.concentration + g.concentration_rise,
        least=False,
        rule="base + `concentration_rise`",
        meaning="share of the prompts that the most frequent majority answer wins",
        healthy="stays where the base has it",
        red_flag="rises: one answer for everything, the collapse of Shafayat et al. 2025",
    ),
    Sign(
        "answer spread",
        lambda h: h.spread,
        lambda base, kept, g: _plus(base.spread, -g.spread_drop),
        least=True,
        rule="base - `spread_drop`",
        meaning="entropy of the majority answers over log(prompts)",
        healthy="stays where the base has it",
        red_flag="falls: a few answers share all prompts, none of them yet on top",
    ),
    Sign(
        "answer entropy",
        lambda h: h.answer_entropy,
        lambda base, kept, g: base.answer_entropy + g.entropy_rise,
        least=False,
        rule="base + `entropy_rise`",
        meaning="mean entropy of the answers to a prompt, in nats",
        healthy="falls as agreement rises",
        red_flag="rises: noise (0 beside a rising top answer share: collapse, which the two above see)",
    ),
    Sign(
        "unique answers",
        lambda h: h.unique_answers,
        lambda base, kept, g: base.unique_answers * g.unique_factor,
        least=False,
        rule="base x `unique_factor`",
        meaning="mean number of different answers to a prompt",
        healthy="falls towards 1 slowly",
        red_flag="rises: the samples have nothing to do with each other",
    ),
    Sign(
        "distinct bigrams",
        lambda h: h.distinct_2,
        lambda base, kept, g: base.distinct_2 / g.diversity_factor,
        least=True,
        rule="base / `diversity_factor`",
        meaning="unique over all word bigrams of the samples (Li et al. 2016)",
        healthy="halves at most: wording settles",
        red_flag="a fraction of the base's: the same words for every prompt",
    ),
    Sign(
        "dispersion",
        lambda h: h.dispersion,
        lambda base, kept, g: _times(base.dispersion, 1 / g.diversity_factor),
        least=True,
        rule="base / `diversity_factor`",
        meaning="mean 1 - cosine between the embedded answers to different prompts",
        healthy="stays near the base's",
        red_flag="falls: answers to different prompts become one text",
    ),
    Sign(
        "parse rate",
        lambda h: h.parse_rate,
        lambda base, kept, g: base.parse_rate - g.parse_drop,
        least=True,
        rule="base - `parse_drop`",
        meaning="share of the samples whose answer can be read",
        healthy="rises to about 1",
        red_flag="falls: the format is being lost",
    ),
    Sign(
        "mean tokens, shortest",
        lambda h: h.mean_tokens,
        lambda base, kept, g: base.mean_tokens / g.length_factor,
        least=True,
        rule="base / `length_factor`",
        meaning="mean length of the samples",
        healthy="falls a little where the base rambles",
        red_flag="a fraction of the base's: reasoning is being dropped",
    ),
    Sign(
        "mean tokens, longest",
        lambda h: h.mean_tokens,
        lambda base, kept, g: base.mean_tokens * g.length_factor,
        least=False,
        rule="base x `length_factor`",
        meaning="mean length of the samples",
        healthy="at or below the base's",
        red_flag="a multiple of the base's: length blow-up",
    ),
    Sign(
        "tokens, 95th percentile",
        lambda h: h.p95_tokens,
        lambda base, kept, g: base.p95_tokens * g.length_factor,
        least=False,
        rule="base x `length_factor`",
        meaning="length that one sample in twenty exceeds",
        healthy="at or below the base's",
        red_flag="rises before the mean does: some prompts no longer end",
    ),
    Sign(
        "truncation",
        lambda h: h.truncation,
        lambda base, kept, g: base.truncation + g.truncation_rise,
        least=False,
        rule="base + `truncation_rise`",
        meaning="share of the samples cut at `sample.max_new_tokens`",
        healthy="falls",
        red_flag="rises: the model no longer ends its turn",
    ),
    Sign(
        "repetition",
        lambda h: h.repetition,
        lambda base, kept, g: base.repetition + g.repetition_rise,
        least=False,
        rule="base + `repetition_rise`",
        meaning="mean share of a sample's word 4-grams that repeat an earlier one of it",
        healthy="near 0",
        red_flag="rises: loops",
    ),
    Sign(
        "KL to base",
        lambda h: h.kl,
        lambda base, kept, g: g.kl,
        least=False,
        rule="`kl`",
        meaning="divergence of the policy from the base on fixed completions of the base, nats a token",
        healthy="some tenths of a nat",
        red_flag="several nats: another model",
    ),
    Sign(
        "human text",
        lambda h: h.human_nll,
        lambda base, kept, g: _plus(base.human_nll, g.human_nll_rise),
        least=False,
        rule="base + `human_nll_rise`",
        meaning="negative log likelihood of a fixed human-written text, nats a token",
        healthy="moves by hundredths",
        red_flag="rises: language itself is being forgotten",
    ),
    Sign(
        "memory echo",
        lambda h: h.echo or 0.0,
        lambda base, kept, g: g.echo,
        least=False,
        rule="`echo`",
        meaning="largest share of the round's survivors that descend from one response",
        healthy="below `select.ancestor_share`, which caps it",
        red_flag="near 1: the loop learns one text that it retrieved",
    ),
)
"""All that is watched, in the order in which a verdict names it."""
