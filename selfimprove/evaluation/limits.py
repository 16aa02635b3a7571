"""The guard: pure functions from health to keep, reject or stop, and to the settings of a second try."""

from collections.abc import Mapping, Sequence

from ..config import GuardConfig, RunConfig
from ..types import Decision, GuardVerdict
from .metrics import SIGNS, Health


def judge(kept: Sequence[Health], now: Health, limits: GuardConfig, earlier_rejections: int) -> GuardVerdict:
    """Return the decision on a round, with every check that was made (`SIGNS`, in order). It never sees a label.

    `kept` is the health of the base and of the kept rounds, in order. Agreement is compared with the last of them, what
    the base majority says with the best of them (so that it cannot slip away by small steps), the rest with the base.
    One failed check rejects the round; the `limits.trips`-th rejection, `earlier_rejections` counted, stops the run. A
    number that could not be had fails.
    """
    made = (sign.check(kept, now, limits) for sign in SIGNS)
    checks = tuple(check for check in made if check is not None)
    if all(check.passed for check in checks):
        return GuardVerdict(Decision.KEEP, checks)
    return GuardVerdict(rejection(limits, earlier_rejections), checks)


def rejection(limits: GuardConfig, earlier: int) -> Decision:
    """Return what a round that cannot be kept means after `earlier` rejected ones: another try, or the end."""
    return Decision.STOP if earlier + 1 >= limits.trips else Decision.REJECT


def score(base: Health, now: Health) -> float:
    """Return one number, higher is better, that goes with accuracy as far as anything label-free does.

    Gain in samples that agree with the base majority and in readable answers, less what the top answer share rose: the
    three that each failure moves at least one of. No verdict reads it; `best` does.
    """
    share, before = now.base_majority_share, base.base_majority_share
    if share is None or before is None:  # a memory from before the samples were counted
        share, before = now.base_majority_agreement or 0.0, base.base_majority_agreement or 0.0
    return share - before + now.parse_rate - base.parse_rate - max(0.0, now.concentration - base.concentration)


def best(kept: Mapping[int, Health], limits: GuardConfig) -> int:
    """Return the round with the best score, of the base (0) and the kept ones; of equals the latest.

    Where the base's majority is not watched (`base_share_drop` 1) it is no guide, and the latest counts as the best.
    """
    if limits.base_share_drop == 1:
        return max(kept)
    return max(kept, key=lambda round_: (score(kept[0], kept[round_]), round_))


def careful(config: RunConfig) -> RunConfig:
    """Return the settings of the rounds after a rejected one: smaller steps, surer labels, the frozen base's votes."""
    train, select = config.train, config.select
    threshold = (select.threshold + select.ceiling) / 2
    return config.model_copy(
        update={
            "train": train.model_copy(update={"lr": train.lr / 3, "epochs": 1}),
            "select": select.model_copy(update={"threshold": threshold}),
            "vote": config.vote.model_copy(update={"labels": "base"}),
        }
    )
