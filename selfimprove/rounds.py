"""The whole method. Each line of `improve` is a stage: a noun in, a noun out; each commits what it did.

A stage that finds its work in the memory takes it from there, so running again is resuming.
"""

from dataclasses import replace

from .evaluate import measure, stored_health
from .guard import best, careful, judge, rejection
from .run import Run
from .stages import exemplar, revise, sample, select, stitch, train, vote
from .summary import Summary, reporting, summarise
from .types import BASE
from .verdicts import Decision, GuardVerdict, Selection


def improve(run: Run) -> Summary:
    """Run the configured rounds and return what they did; a run that is finished or stopped is only summarised."""
    with reporting(run) as report:
        measure(run, 0, BASE)
        report()
        for round_ in range(1, run.config.rounds + 1):
            if any(record.decision is Decision.STOP for record in run.memory.rounds()):
                break
            run.progress.say(f"\nround {round_}/{run.config.rounds}   from {run.memory.current}")
            now = with_care(run, round_)
            sample(now, round_)
            vote(now, round_, 0)
            exemplar(now, round_)
            vote(now, round_, 1)
            revise(now, round_)
            stitch(now, round_)
            vote(now, round_, 2)
            selection = select(now, round_)
            guard(now, round_, selection, train_and_measure(now, round_, selection))
            report()
        return summarise(run)


def with_care(run: Run, round_: int) -> Run:
    """Return the run with the settings of this round: more careful ones once a trained round was rejected."""
    earlier = [record for record in run.memory.rounds() if record.round < round_]
    if not any(record.decision is Decision.REJECT and record.kept for record in earlier):
        return run
    run.progress.say("more carefully: one epoch, a third of the learning rate, surer labels, the frozen base's votes")
    return replace(run, config=careful(run.config))


def train_and_measure(run: Run, round_: int, selection: Selection) -> str:
    """Return the name of the policy trained on the survivors, measured; the current one when nothing survived."""
    if not selection.kept:
        return run.memory.current
    policy = train(run, round_, selection)
    measure(run, round_, policy)
    return policy


def guard(run: Run, round_: int, selection: Selection, policy: str) -> None:
    """Decide on the round and move `current`, in one transaction: on when it is kept, to the best at the end."""
    records = {record.round: record for record in run.memory.rounds()}
    if round_ not in records:
        earlier = sum(record.decision is not Decision.KEEP for record in records.values())
        limits = run.config.guard
        health = {r: stored_health(run, r) for r in run.memory.standing}
        if selection.kept:
            verdict = judge([*health.values()], stored_health(run, round_), limits, earlier)
            because = verdict.because
        else:
            verdict = GuardVerdict(rejection(limits, earlier), ())
            because = "no candidate survived selection; lower select.threshold"
        if verdict.decision is Decision.KEEP:
            health[round_] = stored_health(run, round_)
        ends = verdict.decision is Decision.STOP or round_ == run.config.rounds
        back_to = best(health, limits) if ends else round_
        if back_to != round_:
            because += f"; the run ends with the best kept round, {back_to or BASE}"
        run.memory.commit_round(round_, verdict, because, policy, back_to=None if back_to == round_ else back_to)
    record = {record.round: record for record in run.memory.rounds()}[round_]
    run.progress.line("guard", f"{record.decision.upper()}: {record.because}")
