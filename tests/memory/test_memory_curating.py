"""People exclude, pin and annotate responses: an overlay each, with time and reason, and nothing is deleted."""

import pytest
from memory_story import ANSWERS, EMBEDDER, commit, commit_vote

from selfimprove.memory import Filter
from selfimprove.memory.inspect.entries import find
from selfimprove.memory.inspect.lineage import lines, trace
from selfimprove.memory.inspect.overview import overview
from selfimprove.memory.retrieval import own_past, trust
from selfimprove.types import Action, Overlay


@pytest.fixture
def voted(memory):
    """1 Paris, 2 Paris!, 3 Lyon, 4 cold, and the vote on them."""
    responses = commit(memory, [("france", "Paris"), ("france", "Paris!"), ("france", "Lyon"), ("hot", "cold")])
    commit_vote(memory, responses, lambda r: "Lyon" if r.text == "Lyon" else ANSWERS[r.prompt_id])
    return memory


def say(memory, id_, action, reason="because"):
    memory.commit_overlays([Overlay(id_, action, reason)])


def pool(memory):
    found = trust(memory, EMBEDDER.encode, round=1, vote_index=0, min_support=0.6)
    return {r.prompt_id: r.response_id for r in found.shown.values()}


def test_an_excluded_response_is_no_candidate_until_it_is_taken_back(voted):
    before = voted.digest()
    say(voted, 1, Action.EXCLUDE, "made up")
    assert [r.id for r in voted.candidates()] == [2, 3, 4]
    assert [r.id for r in own_past(voted, ["france"], 1)["france"]] == [2, 3]
    assert pool(voted) == {"france": 2, "hot": 4}
    assert len(voted.responses()) == 4, "it is still there"
    say(voted, 1, Action.UNEXCLUDE)
    assert pool(voted) == {"france": 1, "hot": 4}
    assert voted.restored() == {1}
    assert [(action, why) for _, action, why in voted.words_on(1)] == [("exclude", "made up"), ("unexclude", "because")]
    assert voted.verify() == []
    assert voted.digest() != before


def test_a_pinned_response_stands_for_its_prompt_whatever_the_vote_says(voted):
    say(voted, 3, Action.PIN)
    assert pool(voted) == {"france": 3, "hot": 4}
    assert {id_: t.answer for id_, t in voted.tallies(1).items()}["france"] == "Paris", "it has no more votes"
    say(voted, 3, Action.EXCLUDE)
    assert pool(voted) == {"france": 1, "hot": 4}
    say(voted, 3, Action.UNEXCLUDE)
    say(voted, 2, Action.PIN)
    assert pool(voted)["france"] == 2, "the last one pinned"
    say(voted, 2, Action.UNPIN)
    assert pool(voted)["france"] == 3


def test_a_pin_shows_no_near_duplicate_of_a_held_out_prompt(voted):
    (leak,) = commit(voted, [("what is 3 plus 4", "7")], index=1)
    say(voted, leak.id, Action.PIN)
    assert leak.id not in pool(voted).values()


def test_what_was_said_is_seen_wherever_responses_are(voted):
    say(voted, 1, Action.EXCLUDE, "made up")
    say(voted, 2, Action.PIN, "well put")
    say(voted, 4, Action.NOTE, "one word")
    assert [e.curation for e in find(voted)] == ["excluded", "pinned", None, None]
    assert voted.ids(Filter(curated="excluded")).tolist() == [1]
    assert next(lines(trace(voted, 1))).endswith("· excluded · Paris")
    assert overview(voted).curated == {"annotated": 1, "excluded": 1, "pinned": 1}
    assert voted.curated() == {
        1: [(Action.EXCLUDE, "made up")],
        2: [(Action.PIN, "well put")],
        4: [(Action.NOTE, "one word")],
    }
    assert voted.db.rows("SELECT response_id, excluded, pinned, note FROM curated ORDER BY 1") == [
        (1, 1, 0, None), (2, 0, 1, None), (4, 0, 0, "one word"),
    ]  # fmt: skip


def test_an_overlay_cannot_be_changed_and_verify_sees_one_that_was(voted):
    say(voted, 1, Action.EXCLUDE, "made up")
    with pytest.raises(Exception, match="overlays is append-only"), voted.db.transaction():
        voted.db.write("DELETE FROM overlays")
    with voted.db.transaction():
        voted.db.write("DROP TRIGGER overlays_no_update")
        voted.db.write("UPDATE overlays SET reason = 'fine'")
    assert voted.verify() == ["unit r0000/curate/0000: its rows are not what was committed"]
