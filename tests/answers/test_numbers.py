"""Amounts in sentences: money, premises told again, signs and units, each in the class of the bare answer."""
# ruff: noqa: RUF001 - answers in all scripts

import pytest

from selfimprove.answers import Kind, extract

PRICE = "How much does it cost?"
POWER = "What is 5^2?"
APPLES = "小明有5个苹果，吃了2个，还剩几个？"
BOTTLES = "一箱有24瓶水，3箱一共有多少瓶？"
CHANGE = "一本书5元，小明有20元，买了3本，还剩多少钱？"
RINGO = "りんごが5個あり、2個食べました。残りは何個ですか？"
MINUS = "What is 3 - 10?"
BOILING = "What is the boiling point of water in Celsius?"
MARATHON = "How many kilometres is a marathon?"
AREA = "What is the area of the circle?"


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$5.", "5"),
        ("It is $5.", "5"),
        ("It's $5.", "5"),
        ("So $15", "15"),
        (r"So \$15", "15"),
        ("$5 a kg", "5"),
        ("$5/kg", "5"),
        ("I am at $5.", "5"),
        ("US$1,200", "1200"),
        ("US$ 1,200", "1200"),
        ("It is US$5.", "5"),
        ("A$50", "50"),
        ("You pay HK$ 50.", "50"),
        ("R$ 50,00", "50"),
        ("It costs R$20, not R$30.", "20"),
        ("$5-10", "5 to 10"),
        ("US$5-US$10", "5 to 10"),
        ("$5-$10 a kg", "5 to 10"),
        ("$20-$15 = $5", "5"),
    ],
)
def test_a_lone_dollar_is_money_whatever_stands_beside_it(text, amount):

    assert extract(text, Kind.NUMBER, PRICE) == amount


@pytest.mark.parametrize("text", ["US$1,200", "So $1,200", "It is $1,200.", r"\boxed{US$1,200}", r"\$1,200"])
def test_money_is_no_formula_where_mathematics_is_asked_for(text):
    assert extract(text, Kind.MATH, "Solve: what does it cost?") == "1200"


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5^2 is 25.", "25"),
        ("5² is 25.", "25"),
        ("$5^2$ is $25$.", "25"),
        ("It is 5^2", "25"),
        ("5^2 is 5*5 = 25", "25"),
        ("n^2 is 25", "25"),
        (r"\sqrt{2}", "1.414213562373"),
        ("$$x+1$$", "x + 1"),
        ("It is x^2.", None),
    ],
)
def test_a_sentence_with_a_power_is_no_formula(text, amount):
    assert extract(text, Kind.NUMBER, POWER) == amount


@pytest.mark.parametrize(("text", "name"), [("So $x=3$", "3"), ("It is x^2", "x^2"), ("So x^2", "x^2")])
def test_short_words_are_no_factors(text, name):
    assert extract(text, Kind.MATH, "Simplify the expression.") == name


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("16π", "50.26548245744"),
        ("16 pi", "50.26548245744"),
        ("3√2", "4.242640687119"),
        ("The area is 16π.", None),
        (r"The area is $16\pi$ square cm.", None),
        (r"It is \sqrt{2}.", None),
        (r"The answer is $\frac{\sqrt{3}}{2}$.", None),
        ("It is 2π/3.", None),
        ("The area is 16π, about 50.27.", "50.27"),
        ("√16 = 4", "4"),
    ],
)
def test_a_root_and_a_multiple_of_pi_are_not_the_integer_in_them(text, amount):
    assert extract(text, Kind.NUMBER, AREA) == amount


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
