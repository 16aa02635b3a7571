"""The loop: each line of `improve` is a stage, a noun in and a noun out; each commits what it did.

Label-free self-training: majority vote over samples (LMSI, Huang et al. 2022) and over answers given with the model's
own trusted answers as demonstrations, retrieved from a memory of all its responses; SFT on the survivors with a KL
penalty; a guard on held-out prompts. A stage that finds its work in the memory takes it from there, so running again
is resuming.
"""

from .reports.summary import Summary, reporting, summarise
from .run.session import Run
from .stages.evaluate import evaluate
from .stages.guard import guard
from .stages.method import OURS, Method
from .stages.recall import recall
from .stages.revise import revise
from .stages.sample import sample
from .stages.select import select
from .stages.stitch import stitch
from .stages.train import train
from .stages.vote import vote
from .types import BASE, Decision, Poll


def improve(run: Run, method: Method = OURS) -> Summary:
    """Run the configured rounds and return what they did; a run that is finished or stopped is only summarised."""
    with reporting(run) as report:
        evaluate(run, 0, BASE)
        report()
        for round_ in range(1, run.config.rounds + 1):
            if any(record.decision is Decision.STOP for record in run.memory.rounds()):
                break
            run.progress.say(f"\nround {round_}/{run.config.rounds}   from {run.memory.current}")
            now = method.settings(run, round_)
            sample(now, round_)
            vote(now, round_, Poll.SAMPLED, method.labels)
            recall(now, round_)
            vote(now, round_, Poll.RECALLED, method.labels)
            revise(now, round_)
            stitch(now, round_)
            vote(now, round_, Poll.FINAL, method.labels)
            survivors = select(now, round_)
            policy = train(now, round_, method.examples(now, round_, survivors))
            evaluate(now, round_, policy)
            guard(now, round_, policy, method.judge)
            report()
        return summarise(run)
