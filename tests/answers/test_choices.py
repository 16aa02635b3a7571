"""Options, yes and no: what a text chooses, not what stands first or last in it, and what a question offers at all."""
# ruff: noqa: RUF001 - Chinese is written with full-width marks

import pytest

from selfimprove.answers import Kind, extract, kind_of

METAL = "Which metal is used in wires?\nA) gold\nB) copper\nC) iron\nD) lead"
NO_MAMMAL = "Which of these is not a mammal?\nA) shark\nB) whale\nC) bat"
PRIME = "Is 7 a prime number?"


def read(prompt, text):
    return extract(text, kind_of(prompt, [text]), prompt)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A) gold is incorrect. B) copper is correct.", "b"),
        ("A) gold is too expensive, so the answer is B) copper.", "b"),
        ("A) gold: incorrect.\nB) copper: correct.\nC) iron: incorrect.\nD) lead: incorrect.", "b"),
        ("A) gold \u274c\nB) copper \u2705\nC) iron \u274c", "b"),
        ("A is incorrect. B is correct. C is incorrect.", "b"),
        ("A) and C) are incorrect. B) is correct.", "b"),
        ("Choice B is correct. Choice A is incorrect.", "b"),
        ("I think A) gold is wrong. I pick B.", "b"),
        ("B) copper\n\nExplanation:\nA) gold is expensive.\nC) iron rusts.", "b"),
        ("B) copper, because gold is too expensive and iron rusts.", "b"),
        ("A) gold\nB) copper\nC) iron\nD) lead\nSo copper is used.", "b"),
        ("A) gold\nB) copper\nC) iron\nD) lead\nThe metal used in wires is copper.", "b"),
        ("A) gold\nB) copper\nC) iron\nD) lead", None),
        ("A. gold\nB. copper\nC. iron\nD. lead\n\nThese", None),
        ("Answer: A) gold B) copper C) iron D) lead", None),
        ("A) gold is a metal. B) copper is a metal.", None),
        ("B) copper\nC) iron", None),
        ("A) gold is not used.", None),
        ("A) gold is too expensive, so copper.", None),
        ("A) copper", None),
        ("The answer is A or B.", None),
        ("The answer is not (A).", None),
        ("It is not option A.", None),
        ("I would not choose A.", None),
    ],
)
def test_an_option_is_chosen_by_what_is_said_not_by_where_it_stands(text, letter):
    assert read(METAL, text) == letter


def test_a_denial_may_be_what_is_asked_for():
    assert read(NO_MAMMAL, "A) shark is not a mammal.") == "a"
    assert read(NO_MAMMAL, "The one that is not a mammal is (A).") == "a"
    assert read(NO_MAMMAL, "A) shark: not a mammal\nB) whale: a mammal") is None


@pytest.mark.parametrize(
    "prompt",
    [
        METAL,
        "A) 3 B) 4 C) 5 D) 6\nWhat is 2+3?",
        "The capital of France is\nA) Paris\nB) Lyon",
        "The capital of France is ___.\nA) Paris\nB) Lyon",
        "Solve 2x + 3 = 7.\nA) 1\nB) 2\nC) 3",
        "Find the odd one out: a) dog b) cat c) car",
        "Identify the noun.\na) run\nb) table",
        "To solve a quadratic you should\nA) factor it\nB) expand it",
        "What should you do first?\nA) Find shelter\nB) Call for help",
        "What does he say?\nA) Hello.\nB) How are you?\nC) Bye.",
        "Which question is best?\nA) What is your name?\nB) How old are you?",
        "A train, which leaves at 3, arrives at 5. How long is the ride?\nA) 1 h\nB) 2 h",
        "中国的首都是（  ）。\nA、北京\nB、上海",
    ],
)
def test_a_list_with_something_that_asks_for_a_choice_is_one_of_options(prompt):
    assert kind_of(prompt, ["B"]) is Kind.CHOICE
    assert read(prompt, "B") == "b"


@pytest.mark.parametrize(
    "prompt",
    [
        "Answer both parts.\na) What is the capital of France?\nb) What is the capital of Spain?",
        "Can you answer these?\na) What is 2+2?\nb) What is 3+3?",
        "A shop, which sells apples, has 12.\na) How many are sold?\nb) How many are left?",
        "Simplify: (a) 3x+2x (b) 4y-y",
        "Solve these equations.\na) 2x=4\nb) 3x=9",
        "Let f(x)=x^2.\n(a) Find f(2).\n(b) Find f(3).",
        "Translate into French:\na) dog\nb) cat",
    ],
)
def test_questions_and_tasks_are_no_options_and_their_answer_is_whole(prompt):
    first, second = "a) Paris\nb) Madrid", "a) Lyon\nb) Madrid"
    assert read(prompt, first) == first
    assert read(prompt, second) == second


def test_a_list_without_a_question_offers_nothing():
    assert kind_of("Ann has 3 apples and 2 pears.\na) fruit\nb) nuts", ["5"]) is not Kind.CHOICE


@pytest.mark.parametrize(
    ("prompt", "text", "answer"),
    [
        (PRIME, "7 is a prime number because it has no divisors other than 1 and itself.", "yes"),
        (PRIME, "7 is a prime number that has no divisors but 1 and 7.", "yes"),
        (PRIME, "7 is prime, not composite.", "yes"),
        (PRIME, "It is prime, not composite.", "yes"),
        (PRIME, "It is true because 7 has no divisors.", "yes"),
        (PRIME, "No doubt, yes.", "yes"),
        (PRIME, "There is no doubt that 7 is prime.", "yes"),
        (PRIME, "No problem! Yes, 7 is prime", "yes"),
        (PRIME, "No divisors other than 1 and 7 exist, so 7 is prime.", "yes"),
        (PRIME, "7 has no divisors, so it is prime.", None),
        (PRIME, "No idea.", None),
        (PRIME, "It is false.", "no"),
        (PRIME, "7 is not a prime number because it is odd.", "no"),
        (PRIME, "I don't think that 7 is prime.", "no"),
        ("Is 15 divisible by 3?", "15 is divisible by 3 with no remainder.", "yes"),
        ("Is 15 divisible by 3?", "15 / 3 = 5, so no remainder is left.", None),
        ("Is 21 prime?", "21 has divisors, so it is not prime.", "no"),
        ("Is 21 prime?", "As 21 is divisible by 3, it is not prime.", "no"),
        ("Is the Earth round?", "The Earth is round, not flat.", "yes"),
        ("Is the Earth flat?", "The Earth is round, not flat.", "no"),
        ("Are whales mammals?", "Whales are mammals, not fish.", "yes"),
        ("Are whales fish?", "Whales are mammals, not fish.", "no"),
        ("Can penguins fly?", "Penguins are birds, but they cannot fly.", "no"),
        ("Can penguins fly?", "No penguins can fly", "no"),
        ("Is 183 greater than 188?", "183 is equal to 188 in terms of length but not", None),
    ],
)
def test_a_denial_counts_where_the_question_is_repeated(prompt, text, answer):
    assert read(prompt, text) == answer


CITY = "中国最大的城市是哪个？\n{}北京\n{}上海\n{}广州"


@pytest.mark.parametrize("mark", ["{}、", "（{}）", "{}．", "{}. ", "{}）", "{}："])
@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("答案：B", "b"),
        ("答案是B", "b"),
        ("答案为B", "b"),
        ("选择B", "b"),
        ("故选：B。", "b"),
        ("应选B项", "b"),
        ("正确选项是B", "b"),
        ("A是错误的，B是正确的。", "b"),
        ("不选A，选B。", "b"),
        ("答案是上海。", "b"),
        ("答案不是A", None),
        ("A、北京\nB、上海", None),
    ],
)
def test_chinese_options(mark, text, letter):
    assert read(CITY.format(*map(mark.format, "ABC")), text) == letter


@pytest.mark.parametrize(
    ("prompt", "text", "kind", "answer"),
    [
        ("法国的首都是哪里？", "答案：巴黎", Kind.SHORT, "巴黎"),
        ("法国的首都是哪里？", "答案是巴黎。", Kind.SHORT, "巴黎"),
        ("几何学之父是谁？", "欧几里得", Kind.SHORT, "欧几里得"),
        ("几内亚的首都是哪里？", "科纳克里", Kind.SHORT, "科纳克里"),
        ("几乎所有的鸟都会飞吗？", "是的", Kind.YES_NO, "yes"),
        ("任何人都会飞吗？", "不是", Kind.YES_NO, "no"),
        ("你有几个苹果？", "3个", Kind.NUMBER, "3"),
    ],
)
def test_chinese_answers(prompt, text, kind, answer):
    assert kind_of(prompt, [text]) is kind
    assert read(prompt, text) == answer
