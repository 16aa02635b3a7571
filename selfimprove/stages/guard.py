"""Guard: decides on a round from its label-free metrics, and moves `current`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..config import GuardConfig
from ..errors import UserError
from ..evaluation.families import most_fallen, most_risen
from ..evaluation.limits import best, careful, judge, rejection
from ..evaluation.metrics import FAMILY_BASE_METRIC, FAMILY_METRIC, Health
from ..outcomes import Decision, GuardVerdict
from ..run.session import Run
from ..types import BASE
from .evaluate import stored_health

Judge = Callable[[Sequence[Health], Health, GuardConfig, int], GuardVerdict]
"""Function of the metrics of the kept rounds (the base first), those of this round, limits and earlier rejections."""


def refuse_truncated(run: Run) -> None:
    """Stop a run before its first round if too many of the base's samples are truncated.

    A truncated response is never trained on, and what is read of it is often a number on the way to the answer, so
    votes on such responses agree on the wrong thing.

    Raises:
        UserError: their fraction is above `guard.base_truncation`, and no round is decided yet.
    """
    found, limit = stored_health(run, 0).truncation, run.config.guard.base_truncation
    if found <= limit or run.memory.rounds():
        return
    raise UserError(
        f"{found:.0%} of the base's answers are cut off at sample.max_new_tokens={run.config.sample.max_new_tokens} "
        f"(limit {limit:.0%}): raise it and start another run with name=NEW (`selfimprove init` finds a length that "
        "fits), or, if answers stand in what is cut off, go on with --resume guard.base_truncation=1"
    )


def guard(run: Run, round_: int, policy: str | None, judge: Judge = judge) -> None:
    """Decide on the round and move `current` in one transaction: forward when kept, to the best round at the end.

    `policy` is None where no candidate survived and nothing was trained: the round is rejected.
    """
    records = {record.round: record for record in run.memory.rounds()}
    if round_ not in records:
        earlier = sum(record.decision is not Decision.KEEP for record in records.values())
        limits = run.config.guard
        health = {r: stored_health(run, r) for r in run.memory.standing}
        if policy is not None:
            now = stored_health(run, round_)
            verdict = judge([*health.values()], now, limits, earlier)
            because = verdict.because + _family_named(verdict, health[0], now)
            if verdict.decision is Decision.KEEP:
                health[round_] = now
        else:
            verdict = GuardVerdict(rejection(limits, earlier), ())
            because = "no candidate survived selection"
        ends = verdict.decision is Decision.STOP or round_ == run.config.rounds
        back_to = best(health, limits) if ends else round_
        if back_to != round_:
            because += f"; the run ends with the best kept round, {back_to or BASE}"
        run.memory.commit_round(
            round_, verdict, because, policy or run.memory.current, back_to=None if back_to == round_ else back_to
        )
    record = {record.round: record for record in run.memory.rounds()}[round_]
    run.progress.line("guard", f"{record.decision.upper()}: {record.because}")


def _family_named(verdict: GuardVerdict, base: Health, now: Health) -> str:
    """Return which families failed their checks, and how; empty if none did."""
    failed = {check.name for check in verdict.checks if not check.passed}
    before, after = base.families or (), now.families or ()
    risen = most_risen(before, after) if FAMILY_METRIC in failed else None
    fallen = most_fallen(before, after) if FAMILY_BASE_METRIC in failed else None
    said = ""
    if risen is not None:
        said += f": {risen.top_fraction:.0%} of the prompts like {risen.name!r} are answered {risen.top_answer!r}"
    if fallen is not None and fallen.base_share is not None:
        said += f": {fallen.base_share:.0%} of the samples of prompts like {fallen.name!r} give the base's answer"
    return said


def with_care(run: Run, round_: int) -> Run:
    """Return the run with the settings of this round: more careful ones once a trained round was rejected."""
    earlier = [record for record in run.memory.rounds() if record.round < round_]
    if not any(record.decision is Decision.REJECT and record.kept for record in earlier):
        return run
    run.progress.say(
        "after a rejected round: one epoch, a third of the learning rate, a higher threshold, votes of the base alone"
    )
    return replace(run, config=careful(run.config))
