"""People can ask where a response comes from, what became of it, and how the answers to a prompt changed."""

import json

import pytest
from memory_story import EMBEDDER, commit, commit_vote

from selfimprove.memory import VectorIndex
from selfimprove.memory.inspect.entries import find, in_order, write_jsonl, write_parquet
from selfimprove.memory.inspect.lineage import (
    Change,
    Echo,
    Turn,
    diff,
    echo,
    lines,
    offspring,
    recalled_for,
    trace,
    turns,
)
from selfimprove.memory.inspect.overview import FlippedPrompt, OperatorLine, overview
from selfimprove.memory.store.memory import Arrival
from selfimprove.memory.store.reads import Filter
from selfimprove.outcomes import Reason, Selection, Tally, Verdict
from selfimprove.types import Message, Origin, Prompt, Source, Split, Stage


@pytest.fixture
def story(memory):
    """Round 1: 1 Paris, 2 Lyon, 3 cold; critique 4 of 1 and 2; revision 5 shown 1, 2 and 4. Round 2: 6, 7 Lyon."""
    commit(memory, [("france", "Paris"), ("france", "Lyon"), ("hot", "cold")])
    commit(memory, [("france", "Lyon is no capital")], stage=Stage.CRITIQUE, parents=(1, 2))
    commit(memory, [("france", "Paris it is")], stage=Stage.REVISE, parents=(2, 1, 4))
    answers = {1: "paris", 2: "lyon", 3: "cold", 5: "paris", 6: "lyon", 7: "lyon"}
    commit_vote(memory, memory.responses(ids=[1, 2, 3, 5]), lambda r: answers[r.id])
    kept = (Verdict(1, Reason.KEPT), Verdict(5, Reason.KEPT))
    memory.commit_selection(1, Selection(kept, (Verdict(2, Reason.MINORITY), Verdict(3, Reason.TOO_EASY, 1.0, 0.9))))
    commit(memory, [("france", "Lyon"), ("france", "Lyon!")], round=2)
    commit_vote(memory, memory.responses(ids=[1, 6, 7]), lambda r: answers[r.id], round=2)
    return memory


def test_trace_draws_each_ancestor_once(story):
    assert list(lines(trace(story, 5))) == [
        "#5 r1 revise · -> paris 0.67 · kept · Paris it is",
        "├─ #2 r1 sample · -> lyon 0.33 · minority · Lyon",
        "├─ #1 r1 sample · -> paris 0.33 · kept · Paris",
        "└─ #4 r1 critique · Lyon is no capital",
        "   ├─ #1 r1 sample · -> paris 0.33 · kept · Paris",
        "   └─ #2 r1 sample · -> lyon 0.33 · minority · Lyon",
    ]
    assert [len(line) for line in lines(trace(story, 5), width=20)] == [20, 20, 20, 20, 20, 20]
    assert [child.entry.id for child in offspring(story, 2).near] == [4, 5]
    assert (story.ancestors(5), story.descendants(1), story.ancestors(1)) == ([1, 2, 4], [4, 5], [])
    with pytest.raises(KeyError):
        trace(story, 99)


def test_a_family_that_meets_itself_is_not_drawn_twice(story):
    for index in range(12):  # each revision is shown the two before it: as a plain tree 2^12 lines
        last = story.count()
        commit(story, [("france", "Paris")], round=3, stage=Stage.REVISE, index=index, parents=(last, last - 1))
    drawn = list(lines(trace(story, story.count())))
    assert len(drawn) < 40
    assert sum("(above)" in line for line in drawn) > 5


def test_turns_and_flips(story):
    assert turns(story, "france") == [
        Turn(1, 0, "paris", 2 / 3, 2 / 3 - 1 / 3, False),
        Turn(2, 0, "lyon", 2 / 3, 2 / 3 - 1 / 3, True),
    ]
    assert turns(story, "italy") == []


def test_echo_counts_the_survivors_that_descend_from_a_response(story):
    assert echo(story, 1) == [Echo(1, 1, 0.5), Echo(2, 1, 0.5), Echo(4, 1, 0.5)]
    assert echo(story, 2) == []


def test_a_response_names_the_survivors_it_was_recalled_for(story):
    assert (recalled_for(story, 1), recalled_for(story, 4), recalled_for(story, 5)) == ([5], [5], [])


def test_diff_of_two_rounds(story):
    assert diff(story, "france", 1, 2) == [
        Change("lyon", 1, 2, "Lyon", "Lyon"),
        Change("paris", 2, 0, "Paris", None),
    ]


def test_diff_leaves_out_what_came_from_a_file(story):
    row = ("france", Origin.IMPORTED.value, "stop", 0, 9, 3, "Paris, says a file")
    story.commit_import(Arrival([row], [Source(story.next_id, "f.jsonl", "line 1")], {"sha256": "0"}))
    assert diff(story, "france", 0, 1) == [Change("paris", 0, 2, None, "Paris"), Change("lyon", 0, 1, None, "Lyon")]


def test_entries_are_listed_by_what_became_of_them(story):
    def ids(limit=-1, **filters):
        return [entry.id for entry in find(story, Filter(**filters), limit=limit)]

    assert ids() == [1, 2, 3, 4, 5, 6, 7]
    assert ids(kept=True) == [1, 5]
    assert ids(kept=False) == [2, 3]
    assert ids(kept=False, prompt_id="hot") == [3]
    assert ids(reasons=(Reason.MINORITY,)) == [2]
    assert ids(round=1, origin=Origin.CRITIQUE) == [4]
    assert ids(limit=2) == [1, 2]
    assert ids(kept=True, reasons=(Reason.MINORITY,)) == []
    assert [entry.id for entry in in_order(story, [6, 1])] == [6, 1]
    entry = next(find(story, ids=[1]))
    assert (entry.prompt, entry.answer, entry.share, entry.reason) == (
        "What is the capital of France?",
        "paris",
        1 / 3,
        "kept",
    )


def test_the_same_filter_narrows_a_search_by_words_or_by_meaning(story):
    kept, lyon = story.ids(Filter(kept=True)), EMBEDDER.encode(["What is the capital of France?\nLyon"])
    assert kept.tolist() == [1, 5]
    assert story.ids(Filter()).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert set(story.search_text("capital", 2)) != {1, 5}
    assert set(story.search_text("capital", 2, kept)) == {1, 5}
    assert story.search_text("capital", 9, story.ids(Filter(round=2, kept=True))) == []
    assert VectorIndex(story).search(lyon, 3)[0].tolist() == [[2, 6, 7]]
    assert VectorIndex(story).search(lyon, 3, kept)[0].tolist() == [[1, 5, -1]]
    assert VectorIndex(story).search(lyon, 3, story.ids(Filter(round=2, origin=Origin.SAMPLE)))[0].tolist() == [
        [6, 7, -1]
    ]


def test_export_as_jsonl_and_parquet(story, tmp_path):
    from pyarrow import parquet

    write_jsonl(find(story, Filter(kept=True)), tmp_path / "kept.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [row["response"] for row in rows] == ["Paris", "Paris it is"]
    write_parquet(find(story, Filter(kept=True)), tmp_path / "kept.parquet")
    assert parquet.read_table(tmp_path / "kept.parquet").to_pylist() == rows
    write_parquet(find(story, ids=[]), tmp_path / "none.parquet")
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_overview(story):
    page = overview(story)
    assert page.prompts == {"heldout": 2, "train": 7}
    assert page.operators == (
        OperatorLine("critique", 1, 0, 3),
        OperatorLine("revise", 1, 1, 3),
        OperatorLine("sample", 5, 1, 15),
    )
    assert page.reasons == {"kept": 2, "minority": 1, "too_easy": 1}
    assert page.flipped == (FlippedPrompt("france", "What is the capital of France?", 1),)
    assert (page.echo_round, page.echo[0]) == (1, Echo(1, 1, 0.5))


def test_prompts_that_differ_in_earlier_turns_only_are_told_apart(memory):
    asked = "And its capital?"
    turns_of = {"fr": "I live in France.", "es": "I live in Spain."}
    prompts = [
        Prompt(id_, (Message("user", said), Message("assistant", "Nice."), Message("user", asked)), Split.TRAIN)
        for id_, said in turns_of.items()
    ]
    memory.add_prompts(prompts, EMBEDDER.encode(list(turns_of.values())))
    for round_, answer in enumerate(("a", "b"), start=1):
        tallies = [Tally(id_, answer, 1.0, 1.0, 1.0, 1, 0) for id_ in turns_of]
        memory.commit_vote(round_, [], tallies)
    assert overview(memory).flipped == (FlippedPrompt("es", asked, 1), FlippedPrompt("fr", asked, 1))
