"""Greedy answers of a tiny model folder."""

from tasks.tiny import exactly

from selfimprove.engines.local import LocalEngine
from selfimprove.models.policy import Policy
from selfimprove.types import Message, Origin, Request, Sampling, Stage, Unit


def greedy(folder, questions):
    requests = tuple(Request(q, Origin.GREEDY, (Message("user", q),), seed=0) for q in questions)
    engine = LocalEngine(Policy.load(exactly(folder)), lambda name: None)
    unit = Unit(0, Stage.GREEDY, 0, requests, Sampling(0.0, 0, 1.0, 40), "base")
    return [generation.text for _, made in engine.generate([unit]) for generation in made]
