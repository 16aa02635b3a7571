"""One rule for what is neither learnt from nor shown: the near-duplicates of held-out prompts."""

import numpy as np
import pytest

from selfimprove.memory import Embedder
from selfimprove.memory.near_duplicates import near_duplicates, numbers, words
from selfimprove.types import Message, Prompt, Split

MINILM = "bundled:minilm"


def asked(split, turns, system=None):
    """A prompt of one question, or of user and assistant turns in alternation, under a system message."""
    if isinstance(turns, dict):
        return asked(split, **turns)
    turns = (turns,) if isinstance(turns, str) else turns
    lead = () if system is None else (Message("system", system),)
    said = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns))
    return Prompt(f"{split} {turns} {system}", (*lead, *said), split)


def same(one, other, embedder=None, cosine=1.0):
    """Whether a train prompt is a near-duplicate of a held-out one, by real vectors or at a cosine."""
    prompts = [asked(Split.TRAIN, one), asked(Split.HELDOUT, other)]
    if embedder is not None:
        return bool(near_duplicates(prompts, embedder.encode([p.conversation for p in prompts]), embedder.encode))
    vectors = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], dtype=np.float32)
    return bool(near_duplicates(prompts, vectors, lambda texts: np.tile(vectors[:1], (len(texts), 1))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what IS the capital -- of italy", "What is the capital of Italy?"),
        ("\uff37hat is \uff13 + 4", "What is 3+4?"),  # full-width forms
        ("हिन्दी में कहो!", "हिन्दी में कहो"),
        ("法国的首都是哪里?", "法国的首都是哪里。"),
    ],
)
def test_the_same_words_are_the_same_whatever_the_embedding_says(one, other):
    assert same(one, other, cosine=0.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4", "3 - 4"),
        ("8 * 4 = ?", "8 / 4 = ?"),
        ("a < b", "a > b"),
        ("का", "कि"),  # vowel signs
        ("???", "!!!"),
        ("What is 7 times 8?", "What is 7 times 9?"),
        ("1,000 miles", "1 miles"),
    ],
)
def test_what_changes_the_question_is_no_punctuation(one, other):
    assert words(one) != words(other)
    assert not same(one, other, cosine=0.96)


def test_the_same_numbers_in_any_order_at_a_high_cosine():
    assert numbers("12 of 1,000.5 in 3.5 or 1,2") == ("1,2", "1000.5", "12", "3.5")
    assert same("What is 9 plus 4?", "What is 4 plus 9?", cosine=0.98)
    assert not same("What is 9 plus 4?", "What is 4 plus 9?", cosine=0.96)
    assert not same("What is 9 plus 4?", "What is 9 plus 5?", cosine=0.99)


def test_a_conversation_is_compared_and_not_its_last_turn():
    peru, chile = (
        ("Tell me about Peru.", "It is large.", "Its capital?"),
        ("Tell me of Chile.", "Long.", "Its capital?"),
    )
    assert same(peru, peru, cosine=0.0)
    assert not same(peru, chile, cosine=0.9)
    french, german = (
        {"turns": ("Say hello.",), "system": f"Answer in {language}."} for language in ("French", "German")
    )
    assert same(french, french, cosine=0.0)
    assert not same(french, german, cosine=1.0)


PASSAGE = (
    "The basin covers 7 million square kilometres, of which 5.5 million are covered by the rainforest. "
    "The region includes territory belonging to nine nations. Most of it lies within Brazil. "
)


@pytest.mark.slow
@pytest.mark.real
def test_a_real_embedder_tells_operands_swapped_from_another_question():
    embedder = Embedder.load(MINILM)
    for one, other, expected in (
        ("What is 4 times 12?", "What is 12 times 4?", True),
        ("Tom has 3 apples and buys 5 more. How many now?", "Tom has 5 apples and buys 3 more. How many now?", True),
        ("What day comes after Friday?", "What day comes after Saturday?", False),
        ("Compute 23 + 7", "Compute 23 - 7", False),
        (PASSAGE * 2 + "How many nations share it?", PASSAGE * 2 + "Which continent is it on?", False),
        (PASSAGE * 9 + "How many nations share it?", PASSAGE * 9 + "Which continent is it on?", False),
        (PASSAGE * 9 + "How many nations share it?", PASSAGE * 9 + "how many nations share it", True),
    ):
        assert same(one, other, embedder) == expected, (one[-40:], other[-40:])


@pytest.mark.real
def test_a_text_longer_than_the_model_sees_is_embedded_whole():
    embedder = Embedder.load(MINILM)
    short, long = "What is the capital of France?", PASSAGE * 9
    france, peru = embedder.encode([long + short, long + "Boil the potatoes for ten minutes, then add salt."])
    assert france @ peru < 0.9999, "the model's own window ends before the question"
    assert np.linalg.norm(france) == pytest.approx(1)
    one, many = embedder.encode_pieces([short, long])
    assert np.allclose(one, embedder.encode([short]), atol=1e-5)
    assert len(many) > 1
    assert np.allclose(np.linalg.norm(many, axis=1), 1)
