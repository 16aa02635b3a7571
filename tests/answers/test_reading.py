"""Reading answers: what small models really write, word and sentence in one class, and no text that can do harm."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfimprove.answers import Kind, classes, extract, kind_of

FRANCE = "What is the capital of France? Answer with one word."
HOT = "What is the opposite of hot?"
TIMES = "What is 7 times 8?"
PLUS = "What is 12 plus 8? Answer in a few words."
LARGER = "Which is larger, 45 or 78?"
ROSE = "Is a rose an animal, a plant or an object?"
MONTH = "Which month comes after April?"
DAY = "What comes after Tuesday?"
LETTER = "Which letter comes before B?"
AUTHOR = "Who wrote Hamlet?"
LETTERED = "Which gas do plants take in?\n(a) oxygen\n(b) carbon dioxide\n(c) helium"
WET = "Is water wet?"
STEPS = "Compute step by step: 12 + 5 - 3"
EGGS = "Ann has 3 bags with 4 eggs each and eats 2. How many eggs are left?"

CASES = [
    # short: a word, a sentence, the sentence turned round, and what stands around it
    (FRANCE, "Paris", "paris"),
    (FRANCE, "Paris.", "paris"),
    (FRANCE, "**Paris**", "paris"),
    (FRANCE, "The capital of France is Paris.", "paris"),
    (FRANCE, 'The capital of France is "Paris".', "paris"),
    (FRANCE, "Paris is the capital of France.", "paris"),
    (FRANCE, "France's capital is Paris.", "paris"),
    (FRANCE, "France\u2019s capital city is Paris, a vibrant and culturally rich city.", "paris"),
    (FRANCE, "Capital of France: Paris", "paris"),
    (FRANCE, "The answer is Paris.", "paris"),
    (FRANCE, "Answer: Paris", "paris"),
    (FRANCE, "It's Paris.", "paris"),
    (FRANCE, "Paris, the capital of France, is beautiful.", "paris"),
    (FRANCE, "Paris, France.", "paris"),
    (FRANCE, "The capital of France is Paris, capital of the French Republic.", "paris"),
    (FRANCE, "The capital of France is called Paris, but in many languages it has other names.", "paris"),
    (FRANCE, "In French, the capital of France is Paris.", "paris"),
    (FRANCE, "The capital of France is Paris. France is a country in Europe.", "paris"),
    (FRANCE, "Sure! The capital of France is Paris.", "paris"),
    (FRANCE, "L'Étoile - The City of Lights - Paris, France.", "paris"),
    (FRANCE, r"We recall that \boxed{Paris}", "paris"),
    (FRANCE, "The capital of France is Lyon.", "lyon"),
    ("What is the capital of Mexico?", "The capital of Mexico is Mexico City.", "mexico city"),
    ("What is the capital of Mexico?", "Mexico City", "mexico city"),
    ("What is the capital of Brazil?", "The capital of Brazil is São Paulo, a city in the south.", "sao paulo"),
    ("What is the capital of Brazil?", "Sao Paulo", "sao paulo"),
    ("What is the capital of Canada?", "The capital of Canada is St. John's.", "st john"),
    (HOT, "The opposite of hot is cold.", "cold"),
    (HOT, "cold", "cold"),
    (HOT, "Cold is the opposite of hot.", "cold"),
    (HOT, "opposite of hot = cold", "cold"),
    (HOT, "The opposite of hot is cold. This is because heat is a form of energy that can be", "cold"),
    (HOT, 'The opposite of "hot" is "cold" or "chilly," but the word', "cold or chilly"),
    (HOT, "The opposite of hot is cold, which means", "cold"),
    (MONTH, "May", "may"),
    (MONTH, "The month that comes after April is May.", "may"),
    (MONTH, "May comes after April.", "may"),
    (DAY, "Wednesday comes after Tuesday.", "wednesday"),
    (DAY, "Tuesday is followed by Wednesday.", "wednesday"),
    (DAY, "After Tuesday comes Wednesday.", "wednesday"),
    (LETTER, "A", "a"),
    (LETTER, "The letter before B is A.", "a"),
    (AUTHOR, "Hamlet was written by William Shakespeare.", "william shakespeare"),
    (AUTHOR, "William Shakespeare wrote Hamlet.", "william shakespeare"),
    (AUTHOR, "William Shakespeare", "william shakespeare"),
    ("What is water made of?", "Water is made of hydrogen and oxygen.", "hydrogen and oxygen"),
    ("What is the largest planet?", "Jupiter is the largest planet in our solar system.", "jupiter"),
    ("What is the largest planet?", "The largest planet in our solar system is Jupiter.", "jupiter"),
    # short: descriptions are told apart, so that two rambling texts do not agree
    ("What is the capital of Spain?", "Spain is a country known for its art.", "country known for its art"),
    ("What is the capital of Spain?", "Spain is a country in Europe.", "country in europe"),
    (FRANCE, "", None),
    (FRANCE, " ...\n", None),
    # numbers
    (TIMES, "56", "56"),
    (TIMES, "7 times 8 is 56.", "56"),
    (TIMES, "7 x 8 = 56.", "56"),
    (TIMES, "7*8 = 56", "56"),
    (TIMES, "7 \u00d7 8 equals fifty-six.", "56"),
    (TIMES, 'The answer to "7 times 8" is **56**.', "56"),
    (TIMES, "Seven times eight is simply fifty-six", "56"),
    (TIMES, "7 * 8 = 56\n\nJust like how 7 can be written as 1", "56"),
    (TIMES, "7 * 8 = 56\n56 is equal to 12 in decimal form.", "56"),
    (TIMES, "The number 7 can be expressed as 7 \u00d7 8 = 56. This is a standard problem", "56"),
    (TIMES, "To solve this, multiply 7 by 8. 7 x 8 equals 56. So the", "56"),
    (TIMES, "To find 7 times 8, we can use the property of multiplication", None),
    (TIMES, "To find 7 times 8, we can use the formula for integers: 7 * 8 =", None),
    (TIMES, "The answer is a word made of two syllables.", None),
    (TIMES, "7x.", None),
    (PLUS, "12 + 8 = 12 + 8 = 20.", "20"),
    (PLUS, "The answer is 20, since 12 + 8 equals 20.", "20"),
    (PLUS, "In a list of numbers, 12 + 8 equals 20", "20"),
    (PLUS, "12 + 8 is approximately 20.", "20"),
    (PLUS, "20\n\nThis is a classic operation, where we add two numbers", "20"),
    (PLUS, "The answer to the question of what is 12 plus 8 would be “20”", "20"),
    (PLUS, "20 is the answer to 12 plus 8, which can be", "20"),
    (PLUS, "That's an easy one, the \"12 plus", None),
    (STEPS, "12 + 5 = 17. 17 - 3 = 14. The answer is 14.", "14"),
    (STEPS, "12 + 5 = 17\n17 - 3 = 14", "14"),
    (STEPS, "12 + 5 - 3 = 14. Note that 12 is 5 more than 7.", "14"),
    (STEPS, "First 12+5=17, then 17-3=14. #### 14", "14"),
    (STEPS, r"So the result is \boxed{14}.", "14"),
    (EGGS, "3 * 4 = 12 eggs. 12 - 2 = 10. Ann has 10 eggs left.", "10"),
    (EGGS, "There are ten eggs left.", "10"),
    ("What is 1/2 plus 1/4?", "The answer is 3/4.", "0.75"),
    ("What is 1/2 plus 1/4?", r"\boxed{\frac{3}{4}}", "0.75"),
    ("What is 1 divided by 3?", "2/6", "1/3"),
    ("How much is the rent?", "The rent is $3,000.00 a month.", "3000"),
    ("How many percent are half?", "50%", "50%"),
    ("What is 3 minus 8?", "3 - 8 = -5", "-5"),
    ("What is 3 minus 8?", "\u22125", "-5"),
    ("How many people live there?", "One hundred and nineteen thousand.", "119000"),
    # choices
    (LARGER, "78", "78"),
    (LARGER, "78 is larger.", "78"),
    (LARGER, "78 is larger than 45.", "78"),
    (LARGER, "78 is a larger number by 33.", "78"),
    (LARGER, "45 is smaller than 78.", "78"),
    (LARGER, "45 is less than 78, so 78 is larger", "78"),
    (LARGER, "The larger number is 78.", "78"),
    (LARGER, "Between 45 and 78, 78 is larger.", "78"),
    (LARGER, "This is a classic logical fallacy. The answer is 45.", "45"),
    (LARGER, "45 is indeed larger than 78.", "45"),
    (LARGER, "To determine the size of 45 and 78, we can look", None),
    (LARGER, "45 is 78.", None),
    (LARGER, "The answer is 10.", None),
    ("Which is smaller, 45 or 78?", "78 is bigger than 45.", "45"),
    (ROSE, "plant", "plant"),
    (ROSE, "A plant.", "plant"),
    (ROSE, "A rose is a plant.", "plant"),
    (ROSE, "Roses: A flower with three petals, a rose is a plant.\n", "plant"),
    (ROSE, "A rose is a type of plant that grows in gardens.", "plant"),
    (ROSE, "A rose is a plant, not an animal.", "plant"),
    (ROSE, "A rose is not an animal, it is a plant.", "plant"),
    (ROSE, 'The answer is "object."', "object"),
    (ROSE, "A rose is an animal, a plant, or an object.", None),
    (ROSE, "A rose is both an animal and a plant.", None),
    (ROSE, "A rose is a tool, a tool, a tool.", None),
    (LETTERED, "b", "b"),
    (LETTERED, "(b) carbon dioxide", "b"),
    (LETTERED, "The answer is B.", "b"),
    (LETTERED, "Plants: the gas they take in is carbon dioxide.", "b"),
    (WET, "Yes, water is wet.", "yes"),
    (WET, "No.", "no"),
    (WET, "Water is not wet.", "no"),
    ("True or false: 2 is even.", "True", "true"),
]


@pytest.mark.parametrize(("prompt", "text", "answer"), CASES)
def test_the_answer_of_a_real_looking_response(prompt, text, answer):
    assert extract(text, kind_of(prompt, [text]), prompt) == answer


def test_the_kind_is_seen_from_the_prompt_or_from_the_group():
    assert kind_of(FRANCE, ["Paris"]) is Kind.SHORT
    assert kind_of(TIMES, ["Paris"]) is Kind.NUMBER
    assert kind_of(LARGER, ["78"]) is Kind.CHOICE
    assert kind_of(WET, ["It is."]) is Kind.YES_NO
    assert kind_of("What comes after 7?", ["8", "8 comes after 7.", "No idea"]) is Kind.NUMBER
    assert kind_of("What comes after Tuesday?", ["Wednesday", "In 2023"]) is Kind.SHORT
    assert kind_of("Describe a rose.", ["Red"]) is Kind.FREE
    assert kind_of("Why is the sky blue?", ["light " * 60, "air " * 50]) is Kind.FREE
    assert kind_of("Who did it, and why?", ["reason " * 60 + "The answer is Ann."] * 2) is Kind.SHORT


def test_a_question_with_a_spare_or_is_not_a_choice():
    for prompt in (
        "What is the capital or main city of France?",
        "How do I say hello or goodbye?",
        "Are there 3 or more?",
    ):
        assert kind_of(prompt, ["Paris"]) is not Kind.CHOICE


def test_free_text_joins_the_first_cluster_it_is_close_to():
    rows = {"red": (1, 0), "crimson": (0.9, 0.4359), "wine": (0.62, 0.7846), "blue": (-1, 0)}

    def embed(texts):
        return np.array([rows[text] for text in texts], dtype=np.float32)

    found = classes(["red", "", "crimson", "wine", "blue", "red"], Kind.FREE, "", embed, 0.85)
    # wine is close to crimson (0.9) but not to red, which founded the cluster
    assert found[0] == found[2] == found[5] != found[3]
    assert found[1] is None
    assert len({found[0], found[3], found[4]}) == 3
    assert found[0] == extract("red", Kind.FREE)


class Short:
    """An embedder that sees five characters at once, and knows no Thai."""

    def encode_pieces(self, texts):
        rows = {"a": (1, 0), "b": (0, 1)}
        return [np.array([rows[text[i]] for i in range(0, len(text), 5)], dtype=float) for text in texts]

    def knows(self, text):
        return text.isascii()


def test_free_text_beyond_what_the_embedder_sees_counts():
    texts = ["aaaaaaaaaa", "aaaaaaaaab", "aaaaabbbbb", "aaaaa"]
    found = classes(texts, Kind.FREE, "", Short(), 0.85)
    assert found[0] == found[1]
    assert len({found[0], found[2], found[3]}) == 3


def test_free_text_in_a_script_that_the_embedder_does_not_know_is_one_only_where_it_is_equal():
    class Blind(Short):
        def encode_pieces(self, texts):
            return [np.ones((1, 1)) for _ in texts]

    found = classes(["กข", "กค", "กข"], Kind.FREE, "", Blind(), 0.85)
    assert found[0] == found[2] != found[1]


def test_without_an_embedder_only_equal_free_texts_are_one():
    found = classes(["Red.", "red", "crimson"], Kind.FREE, "", None, 0.85)
    assert found[0] == found[1] != found[2]


JUNK = [
    "= " * 50_000,
    "is " * 33_000,
    "1," * 50_000,
    "-" * 100_000,
    "\\boxed{" * 15_000,
    "one hundred " * 8_000,
    "a plant, " * 11_000,
    "45 or 78, " * 10_000,
    "the answer " * 9_000,
    "\n" * 100_000,
    "\ud800" * 100_000,
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
def test_hundred_thousand_characters_of_junk_are_read_at_once(kind):
    for junk in JUNK:
        for prompt in (TIMES, ROSE, FRANCE, junk):
            begun = time.process_time()
            extract(junk, kind, prompt)
            kind_of(prompt, [junk])
            assert time.process_time() - begun < 0.5, (junk[:20], prompt[:20])


@pytest.mark.slow
@settings(max_examples=300)
@given(
    text=st.one_of(st.text(max_size=200), st.text("0123456789.,/=-+ is()\\{}boxedfrac#\n'", max_size=80)),
    prompt=st.one_of(st.text(max_size=80), st.sampled_from([TIMES, LARGER, ROSE, FRANCE, LETTERED, WET])),
)
def test_reading_never_raises_and_an_answer_is_never_empty(text, prompt):
    for kind in Kind:
        assert extract(text, kind, prompt) != ""
    kind_of(prompt, [text])


@given(st.integers(-(10**9), 10**9), st.integers(1, 4))
def test_one_number_has_one_spelling(value, zeros):
    spellings = [str(value), f"{value:,}", f"{value}.{'0' * zeros}", f"The answer is {value}.", f"{2 * value}/2"]
    assert {extract(text, Kind.NUMBER, "How many?") for text in spellings} == {str(value)}


SENTENCES = st.sampled_from(
    [
        "The answer is {}.",
        "{}",
        "So it is {}",
        "\\boxed{{{}}}",
        "#### {}",
        "<think>7</think>{}",
        "We get {} in the end.",
    ]
)
ANSWERS = st.sampled_from(
    [
        "12",
        "-3.5",
        "1,234",
        "3/4",
        "5 1/2",
        "50%",
        "3:30 pm",
        "3:2",
        "3 R 2",
        "$5",
        "8 May 1945",
        "2 kg",
        "Paris",
        "C++",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SENTENCES, ANSWERS), min_size=1, max_size=5), st.sampled_from(list(Kind)))
def test_a_response_is_read_the_same_whatever_the_others_say(parts, kind):
    texts = [sentence.format(answer) for sentence, answer in parts]
    together = classes(texts, kind, "What is it?", None, 0.85)
    assert together == [classes([text], kind, "What is it?", None, 0.85)[0] for text in texts]


@given(ANSWERS, st.sampled_from([Kind.NUMBER, Kind.SHORT, Kind.CODE]))
def test_a_class_read_again_is_itself(answer, kind):
    once = extract(answer, kind, "What is it?")
    if once is not None:
        assert extract(once, kind, "What is it?") == once
