"""What the answer key takes for the same answer: signs and operators count, the way that they are written does not."""

import time

import pytest

from selfimprove.evaluation.answer_key import Key, is_right


def key(*answers, rivals=(), letter=None):
    return Key(frozenset(answers), frozenset(rivals), letter)


IRON = key("iron", rivals=["glass", "wood"], letter="B")
LINE = key("x-3", rivals=["x+3", "-x+3", "3"], letter="B")
MINUS = key("-5", rivals=["5", "0.5"], letter="A")
POTASSIUM = key("K", rivals=["Na", "P", "C"], letter="A")

NUMBERS = [
    ("5", ["+5", "x = 5", "It is 5.0", "US$5"], ["-5", r"\boxed{-5}", "5.5"]),
    ("-5", ["-5.", "\\boxed{\u22125}", "The answer is \u20135.", "x = -5", "-$5"], ["5", "3-5"]),
    ("0.5", [".5", "The answer is .5", "0.50", "1/2"], ["5", "-.5", "2.5", "1.05"]),
    ("5%", ["The answer is 5%.", r"\boxed{5\%}", "5 %"], ["The answer is 25.5.", "-5%", "5.5%"]),
    ("$18", ["It costs $18.", r"\boxed{\$18}", "18.00"], ["The answer is $18.50.", "-$18", "$118"]),
    ("1,000", ["1000", "$1,000.00"], ["1", "000"]),
    ("25", ["The area is 25 cm².", r"\boxed{25\text{ cm}^2}"], ["The area is 2 cm²."]),
    ("3/4", [r"\boxed{\frac{3}{4}}", "0.75", "3 / 4"], ["The answer is -3/4.", "3 4", "3/40", "4/3"]),
    ("3/4", [r"\boxed{\dfrac34}"], ["6/8", r"\boxed{-\frac{3}{4}}", r"\boxed{\frac{-3}{4}}"]),
    (r"\frac{1}{2}", [r"\boxed{\dfrac{1}{2}}", r"\boxed{\tfrac12}", "1/2"], [r"\boxed{\frac{1}{3}}", "2"]),
    ("3", ["1 + 2 = 3"], ["The answer is 3/4."]),
    ("35", ["70/2 = 35"], ["70/2"]),
    ("50/50", ["50/50"], ["20/20", "1"]),
    ("12345678901234567890", ["12,345,678,901,234,567,890"], ["12345678901234567891"]),
]
FORMULAS = [
    ("x+3", [r"\boxed{x + 3}", r"It is \(x+3\).", "y = (x+3)", "f(x)=x+3"], [r"\boxed{x-3}", "x 3", "x+30", "x+3.5"]),
    ("x+3", ["So x+3, as x grows."], [r"\boxed{-x+3}", r"\boxed{2x+3}", r"\boxed{2(x+3)}", "x+3-2"]),
    ("x+3", ["B) x+3"], [r"\boxed{(x+3)^2}", r"\boxed{x+3y}", r"\boxed{\frac{x+3}{2}}", r"\boxed{\sqrt{x+3}}"]),
    ("(3, 4)", [r"\boxed{(3,4)}", r"\boxed{\left( 3, 4 \right)}", "It is (3, 4) (see above)."], [r"\boxed{(-3, 4)}"]),
    ("(3, 4)", ["(3, 4)"], [r"\boxed{(3, -4)}", r"\boxed{(3, 4.5)}", r"\boxed{[3, 4]}", r"\boxed{2(3, 4)}"]),
    (r"2\sqrt{3}", [r"\boxed{2\sqrt{3}}", r"$2 \sqrt{3}$"], [r"\boxed{-2\sqrt{3}}", "2 3", r"12\sqrt{3}"]),
    (r"\frac{x+1}{2}", [r"\boxed{\dfrac{x+1}{2}}"], [r"\boxed{\frac{x-1}{2}}", r"-\frac{x+1}{2}"]),
    ("x^2", ["x²", r"\boxed{x^{2}}"], ["x2", r"\boxed{x^3}", r"\boxed{x^2+1}"]),
    ("A+", ["The grade is A+."], ["The grade is A-.", "A"]),
    (LINE, [r"\boxed{x-3}", "It is x \u2212 3.", "x-3, not x+3", "B"], ["x+3", r"\boxed{-x+3}", "x-3 or x+3", "3"]),
]
WORDS = [
    ("5 km", ["The answer is 5 km.", "It is 5.0 km, or more."], ["The answer is 25.5 km.", "It is -5 km."]),
    ("COVID-19", ["covid 19"], ["COVID"]),
    ("July 4, 1776", ["It was July 4 1776."], ["July 14, 1776"]),
    ("Port-au-Prince", ["Port au Prince"], ["Prince"]),
    ("(B)", ["B"], ["C"]),
    (MINUS, ["-5", "It is \u22125, not 5."], ["5", "0.5", "It is 5, not -5."]),
    (key("78", rivals=["45"]), ["It is 78.0.", "78 is larger than 45."], ["-78", "45 and 78", "7.8"]),
]
UNSPACED = [
    (
        "42",
        ["答案是42。", "答案\uff1a42", "答案为42", "６乘７等于４２。", "답은 42입니다."],
        ["答案是142。", "答案是-42。"],
    ),
    ("42", ["答案是42\uff0c因为6乘7。"], ["答案是6\uff0c不是42。"]),
    ("巴黎", ["法国的首都是巴黎。"], ["法国的首都是里昂。巴黎更大。"]),
    ("パリ", ["首都はパリです。"], ["首都はバリです。"]),
    ("서울", ["수도는 서울입니다."], ["수도는 부산입니다."]),
    ("กรุงเทพ", ["เมืองหลวงคือกรุงเทพ"], ["เมืองหลวงคือเชียงใหม่"]),
    (IRON, ["答案是B。"], ["答案是A。"]),
]
LETTERS = [
    (IRON, ["The correct option is B", "The correct answer is option B."], ["The correct option is A"]),
    (IRON, ["b", "(b)", r"\boxed{\text{B}}", r"\boxed{\textbf{(B)}\ iron}", "B) iron"], ["a", "c", "The metal is a"]),
    (IRON, ["iron", "B - iron"], ["Both A and B.", "The correct option is not B."]),
    (POTASSIUM, ["The symbol is K", "K"], ["The symbol is C", "Na"]),
]


@pytest.mark.parametrize(("answer", "right", "wrong"), NUMBERS + FORMULAS + WORDS + UNSPACED + LETTERS)
def test_signs_and_operators_count_and_notation_does_not(answer, right, wrong):
    found = answer if isinstance(answer, Key) else key(answer)
    assert [text for text in right if not is_right(text, found)] == []
    assert [text for text in wrong if is_right(text, found)] == []


@pytest.mark.parametrize(
    "junk", ["1,", "1-", "1 / ", "x+", "(", r"\frac{", r"\text{", "is ", "- ", "巴", "\t", "9" * 9]
)
def test_no_text_takes_long(junk):
    start = time.process_time()
    for found in (IRON, LINE, key("56"), key("x+4"), key("5 km"), key("巴黎")):
        assert not is_right(junk * 10_000, found)
    assert time.process_time() - start < 10
