"""A small memory with a story: ten prompts, two of them held out, one of which a train prompt repeats."""

import numpy as np

from selfimprove.memory import Embedder
from selfimprove.outcomes import Judgement, Tally
from selfimprove.types import Finish, Generation, Message, Origin, Prompt, Request, Sampling, Split, Stage, Unit

EMBEDDER = Embedder.load("hash:64")
SAMPLING = Sampling(temperature=0.7, top_k=50, top_p=1.0, max_new_tokens=16)

QUESTIONS = [
    ("france", "What is the capital of France?", Split.TRAIN),
    ("spain", "What is the capital of Spain?", Split.TRAIN),
    ("hot", "What is the opposite of hot?", Split.TRAIN),
    ("7x8", "What is 7 times 8?", Split.TRAIN),
    ("7x9", "What is 7 times 9?", Split.TRAIN),
    ("rose", "Is a rose an animal, a plant or an object?", Split.TRAIN),
    ("what is 3 plus 4", "what is 3 plus 4", Split.TRAIN),
    ("italy", "What is the capital of Italy?", Split.HELDOUT),
    ("3+4", "What is 3 plus 4?", Split.HELDOUT),
]
ANSWERS = {"france": "Paris", "spain": "Madrid", "hot": "cold", "7x8": "56", "7x9": "63", "rose": "a plant"}


def prompt(id_: str, text: str, split: Split = Split.TRAIN) -> Prompt:
    return Prompt(id_, (Message("user", text),), split)


PROMPTS = [prompt(*question) for question in QUESTIONS]
TEXT = {p.id: p.text for p in PROMPTS}


def make_unit(
    answers: list[tuple[str, str]],
    *,
    round: int = 1,
    stage: Stage = Stage.SAMPLE,
    index: int = 0,
    parents: tuple[int, ...] = (),
    finish: Finish = Finish.STOP,
):
    """A unit in which `answers` were generated: (unit, generations, embeddings)."""
    requests = tuple(
        Request(id_, Origin(stage), (Message("user", TEXT[id_]),), seed=slot, parents=parents)
        for slot, (id_, _) in enumerate(answers)
    )
    generations = [Generation(text, finish, prompt_tokens=9, new_tokens=3) for _, text in answers]
    vectors = EMBEDDER.encode([f"{TEXT[id_]}\n{text}" for id_, text in answers])
    return Unit(round, stage, index, requests, SAMPLING, "base"), generations, vectors


def commit(memory, answers, **how):
    unit, generations, vectors = make_unit(answers, **how)
    return memory.commit_unit(unit, generations, vectors, wall_s=1.0)


def commit_vote(memory, responses, read, *, round: int = 1, index: int = 0):
    """Majority vote over `responses`; `read` maps a response to its answer class or None."""
    groups: dict[str, list] = {}
    for response in responses:
        groups.setdefault(response.prompt_id, []).append((response.id, read(response)))
    judgements, tallies = [], []
    for id_, group in groups.items():
        votes = [answer for _, answer in group if answer is not None]
        shares = {answer: votes.count(answer) / len(votes) for answer in votes}
        ranked = sorted(shares, key=lambda answer: -shares[answer])
        top = shares[ranked[0]] if ranked else 0.0
        second = shares[ranked[1]] if len(ranked) > 1 else 0.0
        tallies.append(
            Tally(
                id_, ranked[0] if ranked else None, top, top - second, len(votes), len(votes), len(group) - len(votes)
            )
        )
        judgements += [Judgement(rid, answer, 1.0, shares.get(answer)) for rid, answer in group]
    memory.commit_vote(round, judgements, tallies, index=index, wall_s=0.1)


def unit_rows(rng, n, d=16):
    rows = rng.standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
