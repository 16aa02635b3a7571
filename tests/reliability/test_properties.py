"""The memory against a dictionary, through crashes; votes in any order; answers out of anything."""

import random
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from selfimprove.answers import Kind, classes, extract, kind_of
from selfimprove.memory import Embedder, ResponseMemory, VectorIndex
from selfimprove.memory.store.rows import storable
from selfimprove.outcomes import Decision, GuardVerdict, Judgement, Tally
from selfimprove.stages.vote import Ballot, count_votes
from selfimprove.types import BASE, Finish, Generation, Message, Origin, Prompt, Request, Sampling, Split, Stage, Unit

EMBEDDER = Embedder.load("hash:16")
SAMPLING = Sampling(0.7, 50, 1.0, 8)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
PROMPTS = [Prompt(f"p{n}", (Message("user", f"What is {n}?"),), Split.TRAIN) for n in range(4)]


class Died(BaseException):
    """Stands for the process dying inside a transaction."""


class MemoryAgainstDictionary(RuleBasedStateMachine):
    """Commit, commit again, die in a transaction, lose power at the end of the log, reopen: it says what it was told.

    `said` maps a unit's name to the texts of its responses.
    """

    @initialize()
    def create(self):
        self.folder = Path(tempfile.mkdtemp())
        self.memory = ResponseMemory.create(self.folder / "memory.db")
        self.memory.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
        self.said: dict[str, list[str]] = {}
        self.voted: dict[tuple[int, int], str] = {}
        self.kept = {0: BASE}
        self.current = BASE

    def teardown(self):
        self.memory.close()
        shutil.rmtree(self.folder)

    def unit(self, index, texts):
        requests = tuple(Request(PROMPTS[n % 4].id, Origin.SAMPLE, (), seed=n) for n in range(len(texts)))
        unit = Unit(1, Stage.SAMPLE, index, requests, SAMPLING, BASE)
        return unit, [Generation(text, Finish.STOP, 1, 1) for text in texts], EMBEDDER.encode(texts)

    @rule(index=st.integers(0, 9), texts=st.lists(ANY_TEXT, min_size=1, max_size=4))
    def commit(self, index, texts):
        unit, generations, vectors = self.unit(index, texts)
        self.said.setdefault(unit.id, [storable(text) for text in texts])
        returned = self.memory.commit_unit(unit, generations, vectors, wall_s=0)
        assert [r.text for r in returned] == self.said[unit.id], "the first commit of a unit is the one that counts"

    @rule(index=st.integers(0, 9), texts=st.lists(ANY_TEXT, min_size=1, max_size=4), after=st.integers(0, 4))
    def die_in_a_transaction(self, index, texts, after):
        unit, generations, vectors = self.unit(index, texts)
        if unit.id in self.said:
            return
        insert, left = self.memory.db.insert, [after]

        def dying(*arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                raise Died
            insert(*arguments, **more)

        self.memory.db.insert = dying
        try:
            self.memory.commit_unit(unit, generations, vectors, wall_s=0)
            self.said[unit.id] = [storable(text) for text in texts]
        except Died:
            pass
        del self.memory.db.insert

    @rule(noise=st.binary(max_size=300))
    def lose_power(self, noise):
        """What is on the disk now goes on in another folder; the log ends in noise, as of a write that was cut."""
        other = Path(tempfile.mkdtemp())
        for name in ("memory.db", "memory.db-wal"):
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, other / name)
        with open(other / "memory.db-wal", "ab") as log:
            log.write(noise)
        self.memory.close()
        shutil.rmtree(self.folder)
        self.folder = other
        self.memory = ResponseMemory.open(other / "memory.db", write=True)

    @rule()
    def reopen(self):
        self.memory.close()
        self.memory = ResponseMemory.open(self.folder / "memory.db", write=True)

    @precondition(lambda self: self.said)
    @rule(index=st.integers(0, 2), answer=ANY_TEXT)
    def count_votes(self, index, answer):
        answer = storable(answer)
        judgements = [Judgement(r.id, answer, 1.0, 1.0) for r in self.memory.responses()]
        tally = Tally("p0", answer, 1.0, 1.0, 1.0, 1, 0)
        self.memory.commit_vote(1, judgements, [tally], index=index)
        self.voted.setdefault((1, index), answer)

    @rule(round_=st.integers(1, 4), decision=st.sampled_from(Decision))
    def decide(self, round_, decision):
        decided = {record.round for record in self.memory.rounds()}
        self.memory.commit_round(round_, GuardVerdict(decision, ()), "", f"r{round_:04d}")
        if round_ not in decided and decision is Decision.KEEP:
            self.kept[round_] = self.current = f"r{round_:04d}"

    @rule(data=st.data())
    def roll_back(self, data):
        round_ = data.draw(st.sampled_from(sorted(self.kept)))
        self.current = self.memory.rollback(round_)
        assert self.current == self.kept[round_]

    @invariant()
    def it_says_what_it_was_told(self):
        if not hasattr(self, "memory"):
            return
        found: dict[str, list[str]] = {}
        for response in self.memory.responses():
            found.setdefault(response.unit, []).append(response.text)
        assert found == self.said
        assert self.memory.current == self.current
        assert {key: self.memory.tallies(*key)["p0"].answer for key in self.voted} == self.voted
        assert self.memory.verify() == []

    @invariant()
    def the_nearest_are_those_of_brute_force(self):
        if not getattr(self, "said", None):
            return
        ids = [r.id for r in self.memory.responses()]
        vectors = self.memory.vectors(ids).astype(np.float64)
        queries = EMBEDDER.encode(["What is 2?", "nothing"])
        found, scores = VectorIndex(self.memory).search(queries, 3)
        for row, query in enumerate(queries.astype(np.float64)):
            exact = vectors @ query
            best = sorted(range(len(ids)), key=lambda n: (-exact[n], ids[n]))[:3]
            assert np.allclose(scores[row][: len(best)], exact[best])
            assert np.allclose([exact[ids.index(i)] for i in found[row] if i != -1], exact[best])


MemoryAgainstDictionary.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestMemoryAgainstDictionary = pytest.mark.slow(MemoryAgainstDictionary.TestCase)

BALLOTS = st.lists(
    st.tuples(st.sampled_from([None, "4", "5", "6"]), st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    max_size=12,
)


@given(BALLOTS, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_vote_is_the_same_in_whatever_order_it_is_cast(cast, rng, cap):
    ballots = [Ballot(id_, *ballot) for id_, ballot in enumerate(cast)]
    shuffled = rng.sample(ballots, len(ballots))
    tally, judgements = count_votes("p", ballots, derived_cap=cap)
    other, others = count_votes("p", shuffled, derived_cap=cap)
    assert other == tally
    assert sorted(others, key=lambda j: j.response_id) == judgements
    assert 0 <= tally.margin <= tally.agreement <= 1 + 1e-9


FRAGMENTS = st.sampled_from(
    ["The answer is ", "\\boxed{", "}", "####", "4", "-", "1/2", "1,000", "3.5e7", "(A)", "B.", "**", "\n", " ", "=",
     "yes", "not ", "²", "٤", "½", "\u202e", "\0", "<|end|>", "$", "%", "the ", "is ", "a " * 50, "9" * 400]
)  # fmt: skip
MADE_UP = st.one_of(ANY_TEXT, st.lists(st.one_of(FRAGMENTS, ANY_TEXT), max_size=40).map("".join))


@settings(max_examples=100, deadline=None)
@given(MADE_UP, MADE_UP)
def test_an_answer_is_read_out_of_anything_soon_and_always_in_the_same_way(text, prompt):
    begun = time.process_time()
    for kind in Kind:
        answer = extract(text, kind, prompt)
        assert answer is None or (isinstance(answer, str) and answer)
        assert extract(text, kind, prompt) == answer
        read = classes([text, "4", text], kind, prompt, EMBEDDER.encode, 0.85)
        assert read[0] == read[2]
    assert kind_of(prompt, [text]) in Kind
    assert time.process_time() - begun < 2


def test_time_to_read_grows_with_length_and_not_with_its_square():
    rng = random.Random(0)
    parts = ["the answer is ", "\\boxed{4", "}", "1,2", "(A) ", "3/4 ", "not ", "= ", "\n", "**"]

    def seconds(length):
        text = "".join(rng.choices(parts, k=length))
        begun = time.process_time()
        for kind in Kind:
            extract(text, kind, "Which, (A) or (B)?")
        return time.process_time() - begun

    seconds(1_000)
    short, long = (min(seconds(n) for _ in range(3)) for n in (4_000, 32_000))
    assert long < 8 * 4 * short + 0.05, "eight times as long may take about eight times as long"
