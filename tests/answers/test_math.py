"""Formulas: equal ones have one name, none is lost, and hostile ones do no harm."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfimprove.answers import Kind, extract, workers
from selfimprove.answers.formula import name


@pytest.fixture(scope="module", autouse=True)
def ended():
    yield
    workers.stop()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{\sqrt{3}}{2}", r"\dfrac{\sqrt 3}2"),
        (r"(x-1)(x+1)", r"x^2-1"),
        (r"\frac{x^2-1}{x-1}", r"x+1"),
        (r"\tan^2(y)+1", r"\sec^2(y)"),
        (r"2\sqrt{2}", r"\sqrt8"),
        (r"\{2,3\}", r"3 \text{ and } 2"),
        (r"x=2 \text{ or } x=3", r"\{3, 2\}"),
        (r"1 \pm \sqrt{19}", r"\{1+\sqrt{19}, 1-\sqrt{19}\}"),
        (r"x>5", r"(5,\infty)"),
        (r"-x > -1", r"x < 1"),
        (r"-1 < x \le 4", r"(-1, 4]"),
        (r"(1,\infty)\cup(-\infty,-1)", r"(-\infty,-1)\cup(1,\infty)"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\left[\begin{array}{cc}1 & 2 \\ 3 & \frac{8}{2}\end{array}\right]"),
        (r"34x+45y-20z+100=0", r"-34x-45y+20z-100=0"),
        (r"10^{-3}", r"0.001"),
        (r"\frac{1}{12}", r"0.0833333333333333"),
        (r"e^2-1", r"-1+e^{2}"),
        (r"3+4i", r"4i+3"),
        (r"f(3)=10", r"10"),
        (r"\text{no solution}", r"\emptyset"),
        (r"14{,}916", r"14,916"),
    ],
)
def test_equal_formulas_have_one_name(one, other):
    assert name(one) == name(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt{2}}{2}"),
        (r"x^2-1", r"(x-1)^2"),
        (r"(1,2)", r"(2,1)"),
        (r"[0,9)", r"(0,9)"),
        (r"x>5", r"x<5"),
        (r"x>5", r"x\ge5"),
        (r"204_5", r"204_6"),
        (r"204_5", r"204"),
        (r"f'(x)", r"f(x)"),
        (r"E", r"e"),
        (r"\overline{AB}", r"\overline{ab}"),
        (r"2,3", r"2,4"),
        (r"1,2,\ldots,9", r"1,2,9"),
        (r"2(3)", r"5"),
        (r"2x+3c", r"2x+3"),
        (r"\pm 3", r"3"),
        (r"\sqrt{x^2}", r"x"),
        (r"4!", r"4"),
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    ],
)
def test_different_formulas_have_different_names(one, other):
    assert name(one) != name(other)


HOSTILE = [
    "__import__('os').system('touch {file}')",
    "exec(open('{file}', 'w'))",
    "().__class__.__bases__[0]",
    "open(chr(47))",
    r"\input{/etc/passwd}",
    "9**9**9**9",
    "9^{9^{9^9}}",
    "100000000!",
    "(x+1)^{100000}",
    "x^{10000000}-1",
    r"\binom{10^9}{10^8}",
    "((((((" * 40 + "x" + "))))))" * 40,
    r"\frac{" * 60 + "1" + "}{2}" * 60,
    "1+" * 190 + "1",
    "\\" * 390,
    "x" * 390,
    "1/0",
    r"\frac{0}{0}",
]


def test_hostile_formulas_run_nothing_and_end_soon(tmp_path):
    file = tmp_path / "ran"
    begun = time.monotonic()
    for formula in HOSTILE:
        extract(f"\\boxed{{{formula.replace('{file}', str(file))}}}", Kind.MATH, "Solve.")
    assert not file.exists()
    assert time.monotonic() - begun < 60


def test_a_worker_that_hangs_is_killed_and_the_next_formula_is_named(monkeypatch):
    assert workers.expression(r"\sqrt{5}+1") is not None
    busy = next(worker for worker in workers._workers if worker.process is not None)
    process = busy.process
    monkeypatch.setattr(workers, "SECONDS", 0.0)
    assert busy.name([r"\sqrt{7}+x"]) is None, "too slow"
    assert process.poll() is not None, "and ended"
    monkeypatch.undo()
    assert workers.expression(r"\sqrt{11}+1") == "4.316624790355"


def test_sympy_is_not_imported_here():
    code = (
        "import sys; from selfimprove.answers import Kind, extract;"
        "extract('\\\\boxed{x^2-1}', Kind.MATH, 'Factor.');"
        "sys.exit('sympy' in sys.modules or 'latex2sympy2_extended' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == 0


@settings(max_examples=60, deadline=None)
@given(st.text("0123456789xyz+-*/^(){}[],.=<>\\ fracsqrtpi_!'", max_size=40))
def test_any_formula_has_one_name_or_none(text):
    found = name(text)
    assert found is None or found.strip()
    assert name(text) == found
