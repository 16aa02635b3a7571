"""The shape of the package: few names at the top, imports without circles, modules beside those that use them."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "selfimprove"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
CALLERS = {
    "selfimprove.rounds": "the loop: a line a stage",
    "selfimprove.cli": "a command is thin: what it does lies in the package that it is about",
}
"""Packages and modules that may be the one importer of modules elsewhere."""
ONE_IMPORTER = {
    "selfimprove.evaluation.accuracy": "reports alone may see accuracy",
    "selfimprove.evaluation.likelihood": "a metric, apart from the stage that measures it",
    "selfimprove.memory.store.dictionary": "describes the schema, beside which it lies",
}
"""Other modules with one importer outside their package, and why."""
ABOVE = {"selfimprove.evaluation.accuracy": "measures what the stages stored; no stage imports it"}
"""Modules that import from packages above their own, and why."""


def imports(tree: ast.AST, *, in_functions: bool, for_types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a tree: those in functions, and those for the type checker alone, if they are asked for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not for_types:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not in_functions:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from imports(node, in_functions=in_functions, for_types=for_types)


def imported(name: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the modules of this package that module `name` imports in one statement."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in MODULES)
        return
    parts = name.split(".")
    package = parts if MODULES[name].name == "__init__.py" else parts[:-1]
    start = package[: len(package) - node.level + 1] if node.level else []
    origin = ".".join([*start, *([node.module] if node.module else [])])
    for alias in node.names:
        found = f"{origin}.{alias.name}"
        if found in MODULES or origin in MODULES:
            yield found if found in MODULES else origin


def graph(*, in_functions: bool = True, for_types: bool = False) -> dict[str, set[str]]:
    """Return module -> modules that it imports."""
    return {
        name: {
            found
            for node in imports(
                ast.parse(path.read_text(encoding="utf-8")), in_functions=in_functions, for_types=for_types
            )
            for found in imported(name, node)
            if found != name
        }
        for name, path in MODULES.items()
    }


GRAPH = graph()


def room(name: str) -> str:
    """Return the package or module at the top that a module lies in."""
    return ".".join(name.split(".")[:2])


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return a circle of imports; [] where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_are_found():
    assert "selfimprove.stages.sample" in GRAPH["selfimprove.rounds"]
    assert "selfimprove.fsio" in GRAPH["selfimprove.training.adapter"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}), "a circle is seen"


def test_there_are_few_names_at_the_top():
    modules = [path for path in PACKAGE.glob("*.py") if path.name != "__main__.py"]
    packages = list(PACKAGE.glob("*/__init__.py"))
    assert len(modules) <= 12, sorted(path.name for path in modules)
    assert len(packages) <= 14, sorted(path.parent.name for path in packages)


def test_modules_import_each_other_in_no_circle():
    assert circle(graph(in_functions=False)) == []


def test_packages_import_each_other_in_no_circle():
    rooms: dict[str, set[str]] = {}
    for name, found in GRAPH.items():
        if name not in ABOVE:
            rooms.setdefault(room(name), set()).update({room(other) for other in found} - {room(name)})
    assert circle(rooms) == []


def test_a_module_lies_beside_those_that_import_it():
    alone = {}
    used = graph(for_types=True)  # a package that exports a module lazily imports it for the type checker
    for name in MODULES:
        importers = {other for other, found in used.items() if name in found} - {"selfimprove"}
        package = name.rpartition(".")[0]
        if package == "selfimprove":
            if MODULES[name].name != "__init__.py" and len({room(other) for other in importers}) == 1:
                alone[name] = importers
        elif len(importers) == 1 and not any(f"{other}.".startswith(f"{package}.") for other in importers):
            alone[name] = importers
    unexplained = {
        name: importers
        for name, importers in alone.items()
        if name not in ONE_IMPORTER and not {room(other) for other in importers} & CALLERS.keys()
    }
    assert unexplained == {}
    assert ONE_IMPORTER.keys() <= alone.keys(), "the list holds what needs a reason, no more"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is(name):
    assert ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8")))


def test_nothing_that_decides_can_see_answers():
    """Rule 1: label-free by construction."""
    deciding = [name for name in MODULES if room(name) in ("selfimprove.stages", "selfimprove.rounds")]
    deciding += [name for name in MODULES if room(name) == "selfimprove.evaluation" and name not in ABOVE]
    for name in deciding:
        assert not GRAPH[name] & {"selfimprove.evaluation.accuracy", "selfimprove.evaluation.answer_key"}, name
