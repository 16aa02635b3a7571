"""The training loop. Each line of `improve` is one stage, which commits its results to the memory.

Label-free self-training: majority votes over samples (LMSI, Huang et al. 2022) and over answers with demonstrations,
which are the model's own trusted responses, retrieved from a memory of all of them; SFT on the selected responses with
a KL penalty; a guard on held-out prompts. A stage skips units that are committed, so a second run resumes the first.
"""

from .outcomes import Decision
from .reports.summary import Summary, reporting, summarise
from .run.session import Run
from .stages.evaluate import evaluate, remeasure
from .stages.guard import guard, refuse_truncated
from .stages.method import OURS, Method
from .stages.recall import recall
from .stages.revise import revise
from .stages.sample import sample
from .stages.select import select
from .stages.stitch import stitch
from .stages.train import train
from .stages.vote import vote, vote_past
from .types import BASE, Poll


def improve(run: Run, method: Method = OURS) -> Summary:
    """Run the rounds that are configured and not yet done, and return the summary of the run."""
    report = reporting(run)
    evaluate(run, 0, BASE)
    report()
    refuse_truncated(run)
    for round_ in range(1, run.config.rounds + 1):
        if any(record.decision is Decision.STOP for record in run.memory.rounds()):
            break
        run.progress.begin(round_, run.memory.current)
        now = method.settings(run.at(round_), round_)
        remeasure(now, round_)
        vote_past(now, round_)
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
