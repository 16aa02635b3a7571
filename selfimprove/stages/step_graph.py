"""Graph of the steps of past responses, and its best-voted prefix.

Responses are split into steps; steps that reach the same state are one node. The value of a node is the fraction of the
responses through it that end in the prompt's consensus answer. The best path may follow one response up to a shared
node and another from there: trajectory stitching (Hepburn & Montana 2022) with votes in place of rewards.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from ..answers import number, quantity
from ..answers import text as wording
from .step_votes import StepVotes, equations

_BOUNDARY = re.compile(r"(?<=[.!?;])\s+|\n+\s*|(?<==)(?!=)|\b(?:is|are|equals)\b(?=\s)")
"""A step ends behind each match: a sentence, a line, an equals sign, a verb that leads to its answer."""
_OPERATOR = re.compile(r"\s*([-+*/\u00d7\u00f7=])\s*")
MAX_STEPS = 64
"""Maximum number of steps of a response; the rest is one last step."""


def split_steps(text: str) -> list[str]:
    """Return the steps of a text: sentences, lines, and what stands before and after `=` or a verb such as "is".

    Lossless: joined they are the text. No step is blank but the only one.
    """
    steps: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        if len(steps) == MAX_STEPS - 1:
            break
        if text[start : match.end()].strip() and text[match.end() :].strip():
            steps.append(text[start : match.end()])
            start = match.end()
    return [*steps, text[start:]]


@dataclass(frozen=True, slots=True)
class StepGraph:
    """The steps of a group of responses, those that reach the same state merged.

    `paths` holds, for each response, the node of each of its steps; `members`, for each node, the positions of the
    responses through it; `steps` the steps themselves; `answers` the class of each response. No path visits a node
    twice, and the graph has no cycle.
    """

    steps: tuple[tuple[str, ...], ...]
    answers: tuple[str | None, ...]
    paths: tuple[tuple[int, ...], ...]
    members: tuple[tuple[int, ...], ...]

    def agreeing(self, node: int, consensus: str) -> int:
        """Return how many of the responses through a node end in the consensus answer."""
        return sum(self.answers[response] == consensus for response in self.members[node])

    def value(self, node: int, consensus: str) -> float:
        """Return the share of the responses through a node that end in the consensus answer."""
        return self.agreeing(node, consensus) / len(self.members[node])

    def texts(self, node: int) -> list[str]:
        """Return the step that each response through a node takes there."""
        return [self.steps[response][self.paths[response].index(node)] for response in self.members[node]]


@dataclass(frozen=True, slots=True)
class _State:
    """State that a step reaches: equal states are one node."""

    text: str
    """Folded."""
    numbers: tuple[str, ...]
    result: str | None
    """The number that a step behind an equals sign begins with."""
    row: np.ndarray | None
    """Its embedding, a unit vector (d,)."""

    def same(self, other: "_State", cosine: float) -> bool:
        """Equal results, or, where there is none, equal texts or close meaning (between states of equal numbers)."""
        if self.result is not None or other.result is not None:
            return self.result == other.result
        close = self.row is not None and other.row is not None and float(self.row @ other.row) >= cosine
        return self.text == other.text or close


def build_graph(
    texts: Sequence[str],
    answers: Sequence[str | None],
    vectors: Sequence[np.ndarray] | None,
    same: float,
) -> StepGraph:
    """Merge the steps of `texts` into a graph.

    Two steps are one node when both follow an `=` and state the same number; otherwise when their folded texts are
    equal, or when they hold the same numbers and their cosine is at least `same` (`vectors`: one array (steps, d) of
    unit rows for each text). A step is compared with the first that founded a node; a merge that would close a cycle is
    not made.
    """
    steps = tuple(tuple(split_steps(text)) for text in texts)
    founders: list[_State] = []
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)  # nodes by their numbers: only equal ones can be one
    successors: list[set[int]] = []
    paths: list[tuple[int, ...]] = []
    for response, own in enumerate(steps):
        path: list[int] = []
        for position, step in enumerate(own):
            row = vectors[response][position] if vectors is not None else None
            state = _state(step, own[position - 1] if position else "", row)
            key = state.numbers if state.result is None else (state.result,)
            node = next((n for n in alike[key] if state.same(founders[n], same) and _open(successors, n, path)), None)
            if node is None:
                node = len(founders)
                founders.append(state)
                successors.append(set())
                alike[key].append(node)
            if path:
                successors[path[-1]].add(node)
            path.append(node)
        paths.append(tuple(path))
    members: list[list[int]] = [[] for _ in founders]
    for response, nodes in enumerate(paths):
        for node in nodes:
            members[node].append(response)
    return StepGraph(steps, tuple(answers), tuple(paths), tuple(tuple(through) for through in members))


def _state(step: str, before: str, row: np.ndarray | None) -> _State:
    found = tuple(number for _, number in number.find(quantity.prepare(step)))
    result = found[0] if found and before.rstrip().endswith("=") else None
    spaced = _OPERATOR.sub(r" \1 ", step)
    return _State(wording.fold(spaced) or step.strip(), found, result, row)


def _open(successors: Sequence[set[int]], node: int, path: Sequence[int]) -> bool:
    """Whether a path may go on to `node` without closing a cycle: `node` does not lead to where the path stands."""
    seen, waiting = set(), [node]
    while waiting and path:
        at = waiting.pop()
        if at == path[-1]:
            return False
        if at not in seen:
            seen.add(at)
            waiting += successors[at]
    return True


@dataclass(frozen=True, slots=True)
class Stitched:
    """A beginning to continue from, the positions of the responses it joins, in order, and its last node's value."""

    prefix: str
    sources: tuple[int, ...]
    value: float


def best_prefix(graph: StepGraph, consensus: str, votes: StepVotes | None = None) -> Stitched | None:
    """Return the best-voted beginning of an answer.

    From the start, the path goes on to the node with the best evidence, the posterior mean (c + 1) / (n + 2) of its
    value when c of the n responses through it end in the consensus (one lucky response does not beat five that mostly
    agree), times the share of `votes` for the equation that it completes. It ends before the first step that states the
    consensus answer, or before its last step. None when fewer than two responses give that answer, when nothing is left
    before it, or when that does worse than the whole group.

    A response that continues a path begins like it, so in a later round it counts for the value of the path's nodes:
    the fresh continuations of a prefix are part of its value.
    """
    edges: dict[int | None, set[int]] = defaultdict(set)
    for path in graph.paths:
        for node, following in zip((None, *path), path, strict=False):
            edges[node].add(following)

    def evidence(node: int) -> tuple[float, int]:
        mean = (graph.agreeing(node, consensus) + 1) / (len(graph.members[node]) + 2)
        if votes is not None and nodes:
            mean *= votes.belief(equations(graph.texts(nodes[-1])[0] + graph.texts(node)[0]))
        return mean, -node

    def states_answer(node: int) -> bool:
        return any(_begins_with(step, consensus) for step in graph.texts(node))

    nodes: list[int] = []
    ahead = {node for node in edges[None] if edges.get(node) and not states_answer(node)}
    while ahead:
        node = max(ahead, key=evidence)
        if not edges.get(node) or states_answer(node):
            break
        nodes.append(node)
        ahead = edges[node]
    agreed = sum(answer == consensus for answer in graph.answers)
    if agreed < 2 or not nodes or graph.value(nodes[-1], consensus) < agreed / len(graph.answers):
        return None
    prefix, sources = _join(graph, nodes, consensus)
    return Stitched(prefix, sources, graph.value(nodes[-1], consensus))


def _begins_with(step: str, answer: str) -> bool:
    """Whether a step begins with the answer, an article apart."""
    prepared = quantity.prepare(step).lstrip()
    if (found := number.find(prepared)) and found[0] == (0, answer):
        return True
    words, wanted = wording.fold(prepared).split(), wording.fold(answer).split()
    if words[:1] in (["the"], ["an"], ["a"]) and words[:1] != wanted[:1]:
        words = words[1:]
    return words[: len(wanted)] == wanted


def _join(graph: StepGraph, nodes: Sequence[int], consensus: str) -> tuple[str, tuple[int, ...]]:
    """The text along a path of nodes, each stretch taken from the response that follows the path the longest."""

    def follows(response: int, start: int) -> int:
        path = graph.paths[response]
        if nodes[start] not in path:
            return 0
        pairs = zip(path[path.index(nodes[start]) :], nodes[start:], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    text, sources, start = "", [], 0
    while start < len(nodes):
        best = max(range(len(graph.paths)), key=lambda r: (follows(r, start), graph.answers[r] == consensus, -r))
        stretch = follows(best, start)
        first = graph.paths[best].index(nodes[start])
        piece = "".join(graph.steps[best][first : first + stretch])
        gap = " " if text and not text[-1].isspace() and not piece[:1].isspace() else ""
        text += gap + piece
        sources.append(best)
        start += stretch
    return text.rstrip(), tuple(dict.fromkeys(sources))
