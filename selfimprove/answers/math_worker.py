"""Names of formulas, in a process that can be killed: JSON lines in, JSON lines out.

Run by its path, so that nothing of the package is imported. Texts become sympy trees by latex2sympy's grammar alone;
`sympify` and `parse_expr`, which evaluate Python, never see them. Equal formulas get the same name:

- a number is named by its exact value where that is rational, else by 15 significant digits of it;
- a rational function by its canonical form (expanded, cancelled);
- any other expression by its values at three points that its variables' names decide (identity testing).
"""

import json
import resource
import signal
import sys
import warnings
from fractions import Fraction
from hashlib import blake2b
from typing import Any

SECONDS = 3.0
"""CPU time for one formula."""
MEMORY = 3 * 2**30
"""Bytes of address space: a number with a billion digits fails, and not the machine."""
_POINTS = 3
_DIGITS = 13


class OutOfTimeError(Exception):
    """The time for a formula is over."""


def _alarm(*_: object) -> None:
    raise OutOfTimeError


def main() -> None:
    """Answer requests until the input ends."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.setrecursionlimit(3000)
    import latex2sympy2_extended  # noqa: F401 -- before the clock runs
    import sympy  # noqa: F401

    signal.signal(signal.SIGVTALRM, _alarm)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            name = _relation(*request) if len(request) == 3 else _expression(request[0])
        except (Exception, OutOfTimeError):  # whatever a parser raises: this formula has no name
            name = None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        sys.stdout.write(json.dumps(name) + "\n")
        sys.stdout.flush()


def _parse(latex: str) -> Any:
    """The sympy tree of a formula; decimals exact, e and i the constants."""
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    plain = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    tree = latex2sympy(
        normalize_latex(latex, plain),
        is_real=True,
        convert_degrees=False,
        normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False, interpret_as_mixed_fractions=False),
    )
    if isinstance(tree, sympy.MatrixBase):
        return tree.applyfunc(_exact)
    return _exact(tree)


def _exact(tree: Any) -> Any:
    import sympy
    from sympy.core.function import AppliedUndef

    constants = {"e": sympy.E, "i": sympy.I}
    swap = {f: sympy.Rational(str(f)) for f in tree.atoms(sympy.Float)}
    swap |= {f: sympy.Symbol(str(f), real=True) for f in tree.atoms(AppliedUndef)}
    swap |= {s: constants[s.name] for s in tree.free_symbols if s.name in constants}
    tree = tree.xreplace(swap).doit() if swap else tree.doit()
    if tree.has(sympy.nan, sympy.zoo):
        raise ValueError("no value")
    return tree


def _open(tree: Any) -> bool:
    """Whether a sum, an integral or the like is left in a tree: it is compared as it stands."""
    import sympy

    return tree.has(sympy.Integral, sympy.Sum, sympy.Limit, sympy.Derivative, sympy.Product)


def _expression(latex: str) -> str | None:
    import sympy

    tree = _parse(latex)
    if isinstance(tree, sympy.MatrixBase):
        rows = [", ".join(_scalar(tree[r, c]) for c in range(tree.cols)) for r in range(tree.rows)]
        return "[" + "; ".join(rows) + "]"
    if isinstance(tree, sympy.FiniteSet):
        return ", ".join(sorted({_scalar(item) for item in tree}))
    if not isinstance(tree, sympy.Expr):
        return None
    return _scalar(tree)


def _scalar(tree: Any) -> str:
    """The name of an expression; raises where it has none."""
    import sympy

    if _open(tree):
        return str(tree)
    if tree in (sympy.oo, -sympy.oo):
        return "oo" if tree == sympy.oo else "-oo"
    if not tree.free_symbols:
        return _number(tree)
    if _rational(tree):
        return str(sympy.cancel(sympy.together(tree))).replace("**", "^").replace("*", " ")
    values = [_number(value) for value in _values(tree)]
    if len(set(values)) == 1:
        return values[0]
    return f"f({', '.join(sorted(s.name for s in tree.free_symbols))}): " + "; ".join(values)


def _rational(tree: Any) -> bool:
    """Whether a tree is a ratio of polynomials with rational coefficients."""
    import sympy

    if any(
        not isinstance(node, (sympy.Add, sympy.Mul, sympy.Pow, sympy.Symbol, sympy.Rational))
        for node in sympy.preorder_traversal(tree)
    ):
        return False
    return all(power.exp.is_Integer and abs(power.exp) <= 64 for power in tree.atoms(sympy.Pow))


def _values(tree: Any) -> Any:
    import sympy

    found = []
    for point in range(_POINTS):
        where = {}
        for symbol in tree.free_symbols:
            key = int.from_bytes(blake2b(f"{symbol.name}|{point}".encode(), digest_size=8).digest(), "little")
            size = sympy.Rational(300 + key % 1700, 1009)
            where[symbol] = -size if point == 1 and key >> 40 & 1 else size
        found.append(tree.xreplace(where).evalf(30))
    return found


def _number(tree: Any) -> str:
    """The name of a constant."""
    import sympy

    if tree.is_Rational:
        return _fraction(Fraction(int(tree.p), int(tree.q)))
    value = tree.evalf(30)
    real, imaginary = value.as_real_imag()
    if not (real.is_Number and imaginary.is_Number) or sympy.nan in (real, imaginary):
        raise ValueError("no number")
    if not (real.is_finite and imaginary.is_finite):
        raise ValueError("infinite")
    size = max(abs(real), abs(imaginary))
    if size and abs(imaginary) < size * sympy.Float("1e-20"):
        return _real(real)
    if size and abs(real) < size * sympy.Float("1e-20"):
        return f"{_real(imaginary)} i"
    return _real(real) if size == 0 else f"{_real(real)} + {_real(imaginary)} i"


def _real(value: Any) -> str:
    import sympy

    exact = Fraction(str(sympy.N(value, 28)))
    near = exact.limit_denominator(10_000)
    if exact == near or abs(exact - near) < abs(exact) * Fraction(1, 10**22):
        return _fraction(near)
    return str(sympy.N(value, _DIGITS))


def _fraction(value: Fraction) -> str:
    if value.denominator == 1:
        if value.bit_length() > 2000 if isinstance(value, int) else value.numerator.bit_length() > 2000:
            raise ValueError("too long")
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1 or value.denominator > 10**30:
        return f"{value.numerator}/{value.denominator}"
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
    digits = str(abs(int(value * 10**places))).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _relation(left: Any, sign: str, right: Any) -> str | None:
    """The name of an equation up to a factor, of an inequality up to a positive one; intervals where it is linear."""
    import sympy

    left, right = _parse(left), _parse(right)
    if _open(left) or _open(right):
        return f"{left} {sign} {right}"
    tree = left - right
    if not isinstance(tree, sympy.Expr) or not tree.free_symbols:
        return None
    if sign in (">", ">="):
        tree, sign = -tree, sign.replace(">", "<")
    symbols = sorted(tree.free_symbols, key=lambda s: s.name)
    if _rational(tree) and sympy.fraction(sympy.together(tree))[1].is_number:
        poly = sympy.Poly(sympy.together(tree), *symbols)
        if len(symbols) == 1 and poly.degree() == 1:
            slope, offset = poly.all_coeffs()
            root = _number(-offset / slope)
            if sign in ("=", "!="):
                return root if sign == "=" else f"!= {root}"
            close = sign == "<="
            if slope > 0:
                return f"(-oo, {root}{']' if close else ')'}"
            return f"{'[' if close else '('}{root}, oo)"
        scale = abs(poly.content()) if sign in ("<", "<=") else poly.content() * sympy.sign(poly.LC())
        form = (poly.as_expr() / scale).expand()
        return f"{form} {sign} 0".replace("**", "^").replace("*", " ")
    values = _values(tree)
    first = abs(values[0]) if sign in ("<", "<=") else values[0]
    if first == 0:
        return None
    shares = [_number(value / first) for value in values]
    return f"f({', '.join(s.name for s in symbols)}) {sign} 0: " + "; ".join(shares)


if __name__ == "__main__":
    main()
