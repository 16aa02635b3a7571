"""Recall is relevant, diverse and honest: only agreed answers, nothing of the held-out prompts."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from memory_story import ANSWERS, EMBEDDER, PROMPTS, SAMPLING, TEXT, commit, commit_vote, prompt, unit_rows

from selfimprove.errors import ModelError
from selfimprove.memory import Embedder, ResponseMemory, VectorIndex
from selfimprove.memory.retrieval import (
    Recalled,
    Trusted,
    draw,
    leaking,
    nearest,
    neighbourhoods,
    neighbours,
    own_past,
    pooled,
    trust,
)
from selfimprove.memory.search import segments
from selfimprove.prompts import make_prompt
from selfimprove.types import Finish, Generation, Message, Origin, Request, Split, Stage, Unit


def read(response):
    """The vote reads the first word of a capital's name, or the number."""
    for answer in ANSWERS.values():
        if answer.casefold() in response.text.casefold():
            return answer.casefold()
    return None


@pytest.fixture
def voted(memory):
    """Every train prompt answered and voted on; held-out answers are in the memory too."""
    right = [(id_, f"The answer is {answer}.") for id_, answer in ANSWERS.items()]
    short = [(id_, answer) for id_, answer in ANSWERS.items()]
    wrong = [("france", "Madrid"), ("france", "cold"), ("what is 3 plus 4", "63"), ("hot", "I cannot say")]
    responses = commit(memory, right + short + wrong)
    cut = commit(memory, [("hot", "cold")], index=1, finish=Finish.LENGTH)
    commit(memory, [("italy", "Rome"), ("3+4", "63")], stage=Stage.PROBE)
    commit_vote(memory, responses + cut, read)
    return memory


def ask(memory, text, k=3, **how):
    trusted = trust(memory, EMBEDDER.encode, **{"round": 1, "vote_index": 0, "min_support": 0.6} | how)
    return nearest(VectorIndex(memory), trusted, [prompt("asked", text)], EMBEDDER.encode([text]), k)[0]


def test_recalled_answers_are_the_shortest_agreed_ones_of_their_prompts(voted):
    found = ask(voted, "What is 7 times 6?", k=10)
    assert {r.prompt_id for r in found} == {"spain", "hot", "7x8", "7x9", "rose"}, "france voted 2 of 4"
    assert {r.prompt_id: r.text for r in found}["7x8"] == "56"
    assert [r.prompt_text for r in found if r.prompt_id == "hot"] == ["What is the opposite of hot?"]
    assert voted.responses(ids=[r.response_id for r in found if r.prompt_id == "hot"])[0].finish is Finish.STOP
    assert {r.prompt_id for r in ask(voted, "What is 7 times 6?", k=2)} == {"7x8", "7x9"}
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


def test_a_sealed_segment_that_finds_too_few_leaves_recall_with_those(memory, monkeypatch):
    for name, value in (("ROWS_A_CELL", 16), ("PROBES", 1), ("FEW", 0)):
        monkeypatch.setattr(segments, name, value)
    commit_vote(memory, commit(memory, list(ANSWERS.items()) * 22), read)
    trusted = trust(memory, EMBEDDER.encode, round=1, vote_index=0, min_support=0.6)
    index, query = VectorIndex(memory, segment_rows=64), memory.vectors([1])
    assert (index.search(query, len(ANSWERS), np.array(list(trusted.shown)))[0] == -1).any(), "only a cell was seen"
    (found,) = nearest(index, trusted, [prompt("asked", "?")], query, len(ANSWERS))
    assert found[0].response_id == 1
    assert len(found) < len(ANSWERS)


def test_agreement_decides_who_is_trusted(voted):
    assert "france" in {r.prompt_id for r in ask(voted, "capital", k=10, min_support=0.5)}
    assert ask(voted, "capital", k=10, min_support=1.01) == []
    assert ask(voted, "capital", vote_index=7) == [], "a vote that was not held trusts nobody"


def test_nothing_of_a_held_out_prompt_is_recalled(voted):
    """A train prompt that says what a held-out one says would hand its answer over, right or wrong."""
    for min_support, text in itertools.product((0.0, 1.0), (p.text for p in PROMPTS)):
        found = {r.prompt_id for r in ask(voted, text, k=20, min_support=min_support)}
        assert not found & {"italy", "3+4", "what is 3 plus 4"}


def test_poisoned_held_out_answers_change_nothing(tmp_path):
    """The same run with every held-out answer replaced: recall hands back the same bytes."""

    def recalled(name, poison):
        with ResponseMemory.create(tmp_path / name) as memory:
            memory.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
            responses = commit(memory, [(id_, answer) for id_, answer in ANSWERS.items()])
            commit(memory, [("italy", poison), ("3+4", poison)], stage=Stage.PROBE)
            commit_vote(memory, responses, read)
            return [ask(memory, p.text, k=20) for p in PROMPTS], own_past(memory, [p.id for p in PROMPTS], 9)

    facts, poisoned = recalled("facts", "Rome"), recalled("poisoned", "POISON")
    assert facts == poisoned
    assert not any(facts[1][id_] for id_ in ("italy", "3+4"))


@pytest.mark.parametrize(
    ("text", "cosine", "leaks"),
    [
        ("what IS the capital -- of italy", 0.0, True),  # the same words
        ("Name Italy's capital.", 0.98, True),  # the same meaning, and no numbers in either
        ("What is the capital of Greece?", 0.96, False),
        ("How much is 3 + 4?", 0.98, True),  # the same meaning and numbers
        ("How much is 4 + 3?", 0.98, True),
        ("What is 3 plus 5?", 0.99, False),  # embeddings hardly see the difference, but the numbers do
        ("What is 3 plus 3 plus 4?", 0.99, False),
        ("What is 3 plus 4?", 0.0, True),
    ],
)
def test_near_duplicates_of_held_out_prompts(path, text, cosine, leaks):
    heldout = [p for p in PROMPTS if p.split is Split.HELDOUT]
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [cosine, 0, np.sqrt(1 - cosine**2)]], dtype=np.float32)
    with ResponseMemory.create(path) as memory:
        memory.add_prompts([*heldout, prompt("hot", "What is hot?"), prompt("new", text)], vectors)
        assert leaking(memory, ["new", "hot", "italy"], EMBEDDER.encode) == ({"new", "italy"} if leaks else {"italy"})


# --- each prompt's own neighbours ------------------------------------------------------------------------------------


def test_each_prompt_finds_its_nearest_trusted_answers_and_never_its_own(voted):
    index, pool = VectorIndex(voted), trust(voted, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5)
    for together in (PROMPTS, PROMPTS[::-1]):
        for prompt_, found in zip(together, neighbours(voted, index, pool, together), strict=True):
            (query,) = voted.prompt_vectors([prompt_.id]).astype(np.float64)
            expected = {r.response_id: query @ voted.vectors([r.response_id])[0] for r in pool.for_prompt(prompt_)}
            assert [r.response_id for r in found] == sorted(expected, key=lambda id_: (-expected[id_], id_))
            assert [r.score for r in found] == pytest.approx([expected[r.response_id] for r in found])
            assert not {prompt_.id, "italy", "3+4", "what is 3 plus 4"} & {r.prompt_id for r in found}
    (found,) = neighbours(voted, index, pool, [p for p in PROMPTS if p.id == "7x8"], 2)
    assert [r.prompt_id for r in found][:1] == ["7x9"]
    assert len(found) == 2
    assert neighbours(voted, index, Trusted({}), PROMPTS) == [[]] * len(PROMPTS)


def test_nothing_is_shown_under_another_system_message(path):
    """A French answer is no demonstration for a prompt that wants German; a follow-up comes with its conversation."""
    french, german = (Message("system", f"Answer in {language}.") for language in ("French", "German"))

    def asks(*messages):
        return make_prompt(messages, 0.0)

    prompts = [asks(s, Message("user", f"The capital of {c}?")) for s in (french, german) for c in ("Peru", "Chile")]
    turns = (
        Message("user", "Tell me about Peru."),
        Message("assistant", "It is large."),
        Message("user", "Its capital?"),
    )
    prompts += [asks(*turns), asks(Message("user", "The capital of Kenya?"))]
    with ResponseMemory.create(path) as memory:
        memory.add_prompts(prompts, EMBEDDER.encode([p.conversation for p in prompts]))
        requests = tuple(Request(p.id, Origin.SAMPLE, p.messages, i) for p in prompts for i in range(2))
        unit = Unit(1, Stage.SAMPLE, 0, requests, SAMPLING, "base")
        generations = [Generation("Lima", Finish.STOP, 9, 1)] * len(requests)
        responses = memory.commit_unit(unit, generations, EMBEDDER.encode(["Lima"] * len(requests)), wall_s=0.0)
        commit_vote(memory, responses, lambda _: "lima")
        pool = trust(memory, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5)
        found = neighbours(memory, VectorIndex(memory), pool, prompts)
    assert [[prompts.index(r.prompt) for r in near] for near in found] == [[1], [0], [3], [2], [5], [4]]
    assert found[5][0].turns == (*turns, Message("assistant", "Lima"))


def test_a_draw_depends_on_its_key_and_shows_different_answers_first(voted):
    pool = trust(voted, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5)
    shown = [replace(r, answer="ab"[n % 2]) for n, r in enumerate(pool.for_prompt(PROMPTS[0]))]
    assert len(shown) >= 5
    draws = [draw(shown, 3, 7, 1, "recall", "france", slot) for slot in range(20)]
    assert draws == [draw(shown[::-1], 3, 7, 1, "recall", "france", slot) for slot in range(20)]
    assert len({tuple(r.response_id for r in one) for one in draws}) > 10
    assert {r.response_id for one in draws for r in one} == {r.response_id for r in shown}
    for slot in range(20):
        distinct = draw(shown, 3, 7, slot, distinct=True)
        assert {r.answer for r in distinct[:2]} == {"a", "b"}
        assert len({r.response_id for r in distinct}) == 3, "when answers run out, the next in order"
    assert draw([], 3, 7) == []


def test_a_group_draws_from_the_responses_that_are_nearest_to_any_of_it(voted):
    pool = trust(voted, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5)
    one, other = (neighbours(voted, VectorIndex(voted), pool, [p], 4)[0] for p in PROMPTS[:2])
    best: dict[int, Recalled] = {}
    for r in [*one, *other]:
        best[r.response_id] = max(r, best.get(r.response_id, r), key=lambda r: r.score)
    ranked = sorted(best.values(), key=lambda r: -r.score)
    assert len(ranked) > 4 and {r.response_id for r in one} != {r.response_id for r in other}
    assert pooled([one, other], 99) == ranked
    assert pooled([one, other], 4) == ranked[:4]
    assert pooled([one], 4) == one


def test_neighbourhoods_hold_neighbours_and_every_prompt_once():
    rng = np.random.default_rng(0)
    centres = unit_rows(rng, 4)
    kinds = rng.permutation(np.repeat(np.arange(4), 8))
    vectors = centres[kinds] + 0.05 * unit_rows(rng, 32)
    prompts = [prompt(str(n), str(kind)) for n, kind in enumerate(kinds)]
    found = neighbourhoods(prompts, vectors, 8)
    assert [len(group) for group in found] == [8] * 4
    assert [len({p.text for p in group}) for group in found] == [1] * 4
    assert sorted(int(p.id) for group in found for p in group) == list(range(32))
    assert all(int(one.id) < int(other.id) for group in found for one, other in itertools.pairwise(group))
    assert [len(group) for group in neighbourhoods(prompts, vectors, 20)] == [20, 12]
    nested = neighbourhoods(prompts, vectors, 20, 8)
    assert [len(group) for group in nested] == [8, 8, 4, 8, 4]
    assert {p.id for group in nested[:3] for p in group} == {p.id for p in neighbourhoods(prompts, vectors, 20)[0]}
    assert neighbourhoods([], np.zeros((0, 0), np.float32), 8, 4) == []


def test_own_past_is_every_answer_to_the_prompt_up_to_the_round(memory):
    commit(memory, [("france", "Paris"), ("hot", "cold")])
    commit(memory, [("france", "say which is wrong")], stage=Stage.CRITIQUE)
    commit(memory, [("france", "Paris.")], stage=Stage.REVISE, parents=(1,))
    commit(memory, [("france", "later")], round=2)
    past = own_past(memory, ["france", "spain"], 1)
    assert {id_: [r.text for r in group] for id_, group in past.items()} == {"france": ["Paris", "Paris."], "spain": []}


# --- embedder --------------------------------------------------------------------------------------------------------


def test_vectors_do_not_depend_on_order_or_repeats():
    texts = [f"{text} {n}" for text in TEXT.values() for n in range(20)]
    vectors = EMBEDDER.encode(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), 64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.array_equal(EMBEDDER.encode(texts[::-1]), vectors[::-1])
    assert np.array_equal(EMBEDDER.encode(texts + texts), np.concatenate([vectors, vectors]))
    assert EMBEDDER.encode([]).shape == (0, 64)
    assert np.isfinite(EMBEDDER.encode(["", "\ud800", "\0"])).all()


def test_hashing_tells_texts_apart_and_near_ones_near():
    near, nearer, far = EMBEDDER.encode(["What is 7 times 8?", "What is 7 times 9?", "colourless green ideas"])
    assert near @ nearer > 0.6 > 0.4 > near @ far
    assert Embedder.load("hash:32").fingerprint != Embedder.load("hash:64").fingerprint


@pytest.mark.parametrize("spec", ["hash:", "hash:0", "hash:x", "/no/such/folder"])
def test_unusable_embedders_are_refused(spec):
    with pytest.raises(ModelError):
        Embedder.load(spec)


@pytest.mark.parametrize(
    ("asked", "cuda", "used"),
    [("cpu", True, "cpu"), ("cuda:1", True, "cuda:1"), ("cuda", False, None), ("auto", True, None)],
)
def test_the_sentence_embedder_follows_the_device_of_the_model(asked, cuda, used, tmp_path, monkeypatch):
    import sentence_transformers
    import torch

    seen = []

    def loaded(*_, device, **__):
        seen.append(device)
        raise OSError("far enough")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", loaded)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="far enough"):
        Embedder.load(str(tmp_path), asked)
    assert seen == [used]


@pytest.mark.real
def test_the_bundled_sentence_transformer_knows_meaning():
    embedder = Embedder.load("bundled:minilm")
    texts = ["What is the capital of France?", "Name the capital city of France.", "Boil the potatoes."]
    question, same, other = embedder.encode(texts)
    assert embedder.dimension == 384
    assert question @ same > 0.8 > 0.3 > question @ other
    assert np.array_equal(embedder.encode(texts[::-1])[::-1], embedder.encode(texts))
    assert embedder.fingerprint == Embedder.load("bundled:minilm").fingerprint
