"""The final answer: behind the reasoning, and marked as final."""

import pytest

from selfimprove.answers import Kind, Thinking, extract, final_text
from selfimprove.answers.final import marked


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("Paris", "Paris"),
        ("<think>Lyon?</think> Paris", "Paris"),
        ("Lyon? No.\n</think>\nParis", "Paris"),
        ("<think>a</think>b<think>c</think>Paris", "Paris"),
        ("<think>Lyon", None),
        ("<think>a</think> b <think>c", None),
        ("[THINK]Lyon[/THINK]Paris", "Paris"),
        ("<|channel|>analysis<|message|>Lyon?<|end|><|channel|>final<|message|>Paris", "Paris"),
        ("analysisIs it Lyon? No.assistantfinalParis", "Paris"),
        ("analysisIs it Lyon", None),
        ("Analysis shows 4.", "Analysis shows 4."),
    ],
)
def test_only_what_follows_the_reasoning_is_final(text, final):
    assert final_text(text) == final


def test_a_template_that_opens_the_block_makes_unmarked_text_unfinished():
    opened = Thinking(opened=True)
    assert final_text("it might be Lyon", opened) is None
    assert final_text("it might be Lyon</think>Paris", opened) == "Paris"


def test_marks_are_a_setting():
    own = Thinking(marks=(("<<", ">>"),))
    assert final_text("<<Lyon>>Paris", own) == "Paris"
    assert extract("<<Lyon", Kind.SHORT, "Where?", own) is None
    assert extract("<think>x</think>Paris", Kind.SHORT, "What is the capital?", own) != "paris"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{3} and then \boxed{\frac{1}{2}}", r"3, \frac{1}{2}"),
        (r"\boxed{3} is wrong. It is surely \boxed{4}", "4"),
        (r"$\boxed{1}$ and $\boxed{-2}$", "1, -2"),
        (r"\boxed{28} percent", r"28\%"),
        ("3 + 4 = 7\n#### 7", "7"),
        ("Final Answer: The final answer is $72$. I hope it is correct.", "$72$"),
        ("<answer> 7 </answer>", "7"),
        ("It is 7.", None),
        (r"\boxed{12", None),
    ],
)
def test_what_is_marked_as_final(text, answer):
    assert marked(text) == answer
