"""What to change after a run that kept no round: by the checks that failed, or by why nothing survived selection."""

from collections import Counter

from ..evaluation.metrics import METRICS
from ..outcomes import Decision, Reason
from .figures import Figures, RoundFigures

NOTHING_SURVIVED = {
    Reason.NO_ANSWER: "answers that can be read: set vote.kind, give room (`selfimprove init` finds "
    "sample.max_new_tokens), or ask in the prompts for one final answer",
    Reason.TRUNCATED: "room for whole answers: `selfimprove init` finds sample.max_new_tokens",
    Reason.MINORITY: "more agreement: more samples (sample.k=16), a lower sample.temperature, or easier prompts",
    Reason.LOW_AGREEMENT: "more agreement: more samples (sample.k=16), easier prompts, a better base, or a lower "
    "select.threshold",
    Reason.TOO_EASY: "harder prompts, or a higher select.ceiling",
}
"""Most frequent reason of dropped responses -> advice."""


def advice(found: Figures) -> tuple[str, ...]:
    """Return what to try in another run; empty if a round was kept, or none is decided."""
    if found.kept or not found.decided:
        return ()
    names = [check["name"] for one in found.decided for check in one.checks if not check["passed"]]
    lines = [metric.advice for metric in METRICS if metric.name in names]
    lines += [
        _more_survivors(found, one) for one in found.decided if one.decision is not Decision.KEEP and not one.checks
    ]
    return tuple(dict.fromkeys(lines))


def _more_survivors(found: Figures, one: RoundFigures) -> str:
    reasons = Counter(verdict.reason for verdict in found.memory.verdicts(one.round).values())
    usual = next((reason for reason, _ in reasons.most_common() if reason in NOTHING_SURVIVED), Reason.LOW_AGREEMENT)
    return NOTHING_SURVIVED[usual]
