"""Figures of a cell beside the run's own: families, prompts learnt from, off-task questions, guard checks.

Only the bench reads the answers. Questions are asked of the run's engine without its memory, so that nothing of this
can be learnt from.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tasks.off_task import off_tasks

from selfimprove.evaluation.answer_key import Key, is_right
from selfimprove.prompts import prompt_id
from selfimprove.run.session import Run
from selfimprove.seeds import seed_for
from selfimprove.types import BASE, Message, Origin, Prompt, Request, Sampling, Split, Stage, Unit

SAMPLES = 4
"""Sampled answers to a question that is measured beside the held-out prompts."""
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0001)
"""Edges of the bins of a winner's support."""


def families_of(audit: Path) -> dict[str, str]:
    """Return the family of each prompt id, from the column `category` of an audit file; empty without one."""
    rows = map(json.loads, audit.read_text(encoding="utf-8").splitlines())
    return {prompt_id((Message("user", row["prompt"]),)): row["category"] for row in rows if "category" in row}


def right_answers(
    run: Run, questions: Sequence[tuple[Prompt, Key]], policy: str, sampling: Sampling, k: int = 1
) -> np.ndarray:
    """Return (P, k) booleans: whether each of a policy's answers to each question is right."""
    size = run.config.sample.unit_prompts

    def units() -> Iterator[Unit]:
        for index, start in enumerate(range(0, len(questions), size)):
            asked = (
                Request(p.id, Origin.PROBE, p.messages, seed_for(run.config.seed, "beside", p.id, slot))
                for p, _ in questions[start : start + size]
                for slot in range(k)
            )
            yield Unit(0, Stage.PROBE, index, tuple(asked), sampling, policy)

    texts = [made.text for _, group in run.engine.generate(units()) for made in group]
    right = [is_right(run.reader.shown(text), questions[i // k][1]) for i, text in enumerate(texts)]
    return np.array(right, dtype=bool).reshape(len(questions), k)


def learnt(run: Run, policies: Sequence[str], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the accuracy on the prompts learnt from: greedy after each round, mean of samples before and after."""
    questions = [(p, keys[p.id]) for p in run.prompts(Split.TRAIN)]
    greedy = Sampling.greedy(run.config.sample.max_new_tokens)
    sampled = run.config.sample.sampling()
    found = {policy: right_answers(run, questions, policy, greedy).mean() for policy in dict.fromkeys(policies)}
    before, after = (right_answers(run, questions, p, sampled, SAMPLES).mean() for p in (policies[0], policies[-1]))
    return {"greedy": [round(float(found[p]), 4) for p in policies], "mean": [float(before), float(after)]}


def off_task(run: Run, policies: Sequence[str]) -> dict[str, Any]:
    """Return, for each off-task task, greedy and mean accuracy of each question before and after: lists (2, P)."""
    found = {}
    for task in off_tasks():
        questions = []
        for question in task.questions:
            messages = (Message("user", question.text),)
            key = Key(frozenset(question.answers), frozenset(question.rivals))
            questions.append((Prompt(prompt_id(messages), messages, Split.HELDOUT), key))
        greedy, sampled = Sampling.greedy(task.max_new_tokens), run.config.sample.sampling(task.max_new_tokens)
        both = (policies[0], policies[-1])
        found[task.name] = {
            "greedy": [right_answers(run, questions, p, greedy)[:, 0].astype(int).tolist() for p in both],
            "mean": [right_answers(run, questions, p, sampled, SAMPLES).mean(axis=1).tolist() for p in both],
        }
    return found


def policy_of(round_: int) -> str:
    """Return the name of the policy that a round trained; the base for round 0."""
    return f"r{round_:04d}" if round_ else BASE


def binned(votes: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Return, for each bin of support that has prompts, mean support, mean accuracy of the winner, and their number."""
    if not votes:
        return []
    table = np.array(votes)  # (P, 2): support, accuracy
    where = np.digitize(table[:, 0], BINS)
    bins = [table[where == b] for b in np.unique(where)]
    return [[*rows.mean(axis=0).round(4).tolist(), len(rows)] for rows in bins]
