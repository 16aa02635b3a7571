"""The guard's rules as pure functions: decision from label-free metrics, best round, settings after a rejection."""

from collections.abc import Mapping, Sequence

from ..config import GuardConfig, RunConfig
from ..outcomes import Decision, GuardVerdict
from .families import mean_rise
from .metrics import METRICS, Health


def judge(kept: Sequence[Health], now: Health, limits: GuardConfig, earlier_rejections: int) -> GuardVerdict:
    """Return the decision on a round, with one check for each of `METRICS` that has a limit, in their order.

    `kept` holds the metrics of the base and of the kept rounds, in order; `now` those of the round. The reference of a
    limit is the last kept round for agreement, the best of `kept` for agreement with the base majority (so that small
    losses cannot add up), else the base. One failed check rejects the round; the `limits.trips`-th rejection,
    `earlier_rejections` included, stops the run. A metric that could not be computed fails its check.
    """
    made = (metric.check(kept, now, limits) for metric in METRICS)
    checks = tuple(check for check in made if check is not None)
    if all(check.passed for check in checks):
        return GuardVerdict(Decision.KEEP, checks)
    return GuardVerdict(rejection(limits, earlier_rejections), checks)


def rejection(limits: GuardConfig, earlier: int) -> Decision:
    """Return REJECT or, if this is the `limits.trips`-th rejection after `earlier` ones, STOP."""
    return Decision.STOP if earlier + 1 >= limits.trips else Decision.REJECT


def score(base: Health, now: Health) -> float:
    """Return a label-free proxy of accuracy, relative to the base; higher is better. Used by `best` alone.

    Gain in samples that give the base's majority answer, plus gain in parse rate, minus the rise of the top answer's
    fraction of the prompts: over all prompts, or in the mean over families where that is more (a fall does not count).
    Each kind of collapse moves at least one of them.
    """
    share, before = now.base_majority_share or 0.0, base.base_majority_share or 0.0
    rise = max(now.concentration - base.concentration, mean_rise(base.families or (), now.families or ()))
    return share - before + now.parse_rate - base.parse_rate - rise


def best(kept: Mapping[int, Health], limits: GuardConfig) -> int:
    """Return the round with the highest `score` among `kept`, a map from rounds to metrics (0: the base).

    Ties go to the latest round. If `base_share_drop` is 1, the base majority is not used as evidence, and the latest
    kept round is returned.
    """
    if limits.base_share_drop == 1:
        return max(kept)
    return max(kept, key=lambda round_: (score(kept[0], kept[round_]), round_))


def careful(config: RunConfig) -> RunConfig:
    """Return the settings after a rejected round: lr / 3, one epoch, a higher threshold, votes of the base alone."""
    train, select = config.train, config.select
    threshold = (select.threshold + select.ceiling) / 2
    return config.model_copy(
        update={
            "train": train.model_copy(update={"lr": train.lr / 3, "epochs": 1}),
            "select": select.model_copy(update={"threshold": threshold}),
            "vote": config.vote.model_copy(update={"labels": "base"}),
        }
    )
