"""The guard: a pure function from health to keep, reject or stop. It never sees a label."""

from dataclasses import dataclass

from .config import GuardConfig
from .types import Check, Decision, GuardVerdict


@dataclass(frozen=True, slots=True)
class Health:
    """What a policy's answers to the held-out prompts look like, without knowing which are right."""

    agreement: float
    """Mean share of a prompt's samples that give its top answer."""
    base_majority_agreement: float
    """Share of the prompts whose greedy answer is the majority answer of the frozen base."""
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


def judge(base: Health, last_kept: Health, now: Health, limits: GuardConfig, earlier_rejections: int) -> GuardVerdict:
    """Return the decision on a round, with every check that was made.

    Agreement is compared with the last kept round, the base majority with the better of base and last kept (so it can
    neither drop at once nor slip away by small steps), the rest with the base. One failed check rejects the round; the
    `limits.trips`-th rejection, `earlier_rejections` counted, stops the run. A number that is NaN fails its check; the
    KL is only checked where it could be measured.
    """
    followed = max(base.base_majority_agreement, last_kept.base_majority_agreement)
    checks = [
        _at_least("agreement", now.agreement, last_kept.agreement - limits.agreement_drop),
        _at_least("agreement with base majority", now.base_majority_agreement, followed - limits.base_majority_drop),
        _at_most("top answer share", now.concentration, base.concentration + limits.concentration_rise),
        _at_least("parse rate", now.parse_rate, base.parse_rate - limits.parse_drop),
        _at_least("mean tokens, shortest", now.mean_tokens, base.mean_tokens / limits.length_factor),
        _at_most("mean tokens, longest", now.mean_tokens, base.mean_tokens * limits.length_factor),
    ]
    if now.kl is not None:
        checks.append(_at_most("KL to base", now.kl, limits.kl))
    if all(check.passed for check in checks):
        decision = Decision.KEEP
    elif earlier_rejections + 1 >= limits.trips:
        decision = Decision.STOP
    else:
        decision = Decision.REJECT
    return GuardVerdict(decision, tuple(checks))


_ROUNDING = 1e-9
"""A value at its limit passes, whatever the last bit says."""


def _at_least(name: str, value: float, limit: float) -> Check:
    return Check(name, value, limit, value >= limit - _ROUNDING)


def _at_most(name: str, value: float, limit: float) -> Check:
    return Check(name, value, limit, value <= limit + _ROUNDING)
