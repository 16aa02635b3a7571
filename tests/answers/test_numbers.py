"""Amounts in sentences: money, premises told again, signs and units, each in the class of the bare answer."""
# ruff: noqa: RUF001 - answers in all scripts

import pytest

from selfimprove.answers import Kind, extract

APPLES = "小明有5个苹果，吃了2个，还剩几个？"
BOTTLES = "一箱有24瓶水，3箱一共有多少瓶？"
CHANGE = "一本书5元，小明有20元，买了3本，还剩多少钱？"
RINGO = "りんごが5個あり、2個食べました。残りは何個ですか？"
MINUS = "What is 3 - 10?"
BOILING = "What is the boiling point of water in Celsius?"
MARATHON = "How many kilometres is a marathon?"


@pytest.mark.parametrize(
    ("prompt", "text", "amount"),
    [
        (APPLES, "小明有5个苹果，吃了2个，还剩3个。", "3"),
        (APPLES, "小明有5个苹果，吃了2个，剩下3个。", "3"),
        (APPLES, "小明有5个苹果，吃掉2个后3个没吃", "3"),
        (APPLES, "小明还有3个苹果，因为他有5个，吃了2个。", "3"),
        (APPLES, "小明有3个苹果", "3"),
        (APPLES, "小明有5个苹果。", "5"),
        (BOTTLES, "每箱有24瓶，所以3箱共72瓶。", "72"),
        (BOTTLES, "每箱有24瓶，3箱得72瓶", "72"),
        (BOTTLES, "每箱有24瓶，3箱需要72瓶。", "72"),
        (BOTTLES, "3箱一共有72瓶水，因为每箱有24瓶。", "72"),
        (BOTTLES, "答案是72瓶，因为一箱有24瓶。", "72"),
        (CHANGE, "还剩5元。", "5"),
        (CHANGE, "小明有20元，3本书共15元，剩下5元。", "5"),
        (CHANGE, "3×5=15元，手里有5元", "5"),
        (RINGO, "りんごは5個あり、2個食べたので、残り3個です。", "3"),
    ],
)
def test_a_premise_told_again_is_not_the_result_in_scripts_without_spaces(prompt, text, amount):
    assert extract(text, Kind.NUMBER, prompt) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("The answer is - 7", "-7"),
        ("3 - 10 is - 7.", "-7"),
        ("The result equals - 7", "-7"),
        ("It goes from 3 to - 7", "-7"),
        ("La risposta è -7", "-7"),
        ("Il fait à -7.", "-7"),
        ("A resposta é -7", "-7"),
        ("答案是 - 7", "-7"),
        ("The answer — 7", "7"),
        ("12 apples - 5 apples = 7 apples", "7"),
        ("x - 7", "7"),
        ("(3) - 7", "7"),
    ],
)
def test_a_minus_behind_a_verb_is_a_sign_and_behind_an_operand_none(text, amount):
    assert extract(text, Kind.NUMBER, MINUS) == amount


@pytest.mark.parametrize(
    ("prompt", "text", "amount"),
    [
        (BOILING, "100 °C (212 °F)", "100"),
        (BOILING, "212 °F (100 °C)", "100"),
        (BOILING, "Water boils at 100 °C (212 °F).", "100"),
        (BOILING, "It is 100 °C, which is 212 °F.", "100"),
        (BOILING, "The answer is 100 °C, which is 212 °F.", "100"),
        (BOILING, "It is 212 °F.", "212 degF"),
        (MARATHON, "42.195 km (26.2 miles)", "42.195"),
        (MARATHON, "It is 42.195 km, which equals 26.2 miles.", "42.195"),
        (MARATHON, "The first half is 21 km, so it is 42.", "42"),
    ],
)
def test_of_one_amount_in_two_units_the_asked_one_counts(prompt, text, amount):
    assert extract(text, Kind.NUMBER, prompt) == amount
