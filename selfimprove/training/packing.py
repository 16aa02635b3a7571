"""Packing: many examples in one row, shared prefixes encoded once.

The examples of a row form a trie: a node is a token after a certain history. The chat prefix that all prompts share,
a prompt that several completions share, and completions that begin alike are then single paths, and a token that
attends to its ancestors alone sees exactly what it would see in a row of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .transfer import to_device
from .tree_attention import Blocks, lay_out


@dataclass(frozen=True, slots=True)
class Encoded:
    """One training example as tokens; `completion` and `rejected` end with the end-of-turn token."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    weight: float
    rejected: tuple[int, ...] | None = None

    @property
    def completions(self) -> tuple[tuple[int, ...], ...]:
        """The completion, and the rejected one where there is one."""
        return (self.completion,) if self.rejected is None else (self.completion, self.rejected)

    @property
    def tokens(self) -> int:
        """Tokens of the example in a row of its own."""
        return len(self.prompt) + sum(len(c) for c in self.completions)


@dataclass(frozen=True, slots=True)
class Packed:
    """Some examples as model input: B rows of T tokens, and N places where a completion token is predicted.

    `spans[i]` holds, for each completion of example i, the indices into `at` and `targets` of its tokens. Where
    completions begin alike, their spans share places. They stay in main memory: a copy each would make the host wait.
    """

    tokens: torch.Tensor  # (B, T)
    positions: torch.Tensor  # (B, T)
    mask: torch.Tensor | None  # (B, T) True where there is a token; None when there is one everywhere
    blocks: Blocks | None  # which tokens see each other when they share a row
    at: torch.Tensor  # (N,) index into B * T of the state that predicts
    targets: torch.Tensor  # (N,)
    spans: tuple[tuple[torch.Tensor, ...], ...]

    @property
    def encoded(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.tokens.numel()

    def to(self, device: torch.device) -> "Packed":
        """The same on another device."""
        return Packed(
            tokens=to_device(self.tokens, device),
            positions=to_device(self.positions, device),
            mask=None if self.mask is None else to_device(self.mask, device),
            blocks=None if self.blocks is None else self.blocks.to(device),
            at=to_device(self.at, device),
            targets=to_device(self.targets, device),
            spans=self.spans,
        )


class _Trie:
    """Tokens with their histories; nodes are numbered in the order of insertion, so parents come first."""

    def __init__(self) -> None:
        self.index: dict[tuple[int, int], int] = {}

    def add(self, sequence: Sequence[int]) -> list[int]:
        """Insert a sequence and return the node of each of its tokens."""
        node, path = -1, []
        for token in sequence:
            node = self.index.setdefault((node, token), len(self.index))
            path.append(node)
        return path

    def __len__(self) -> int:
        return len(self.index)


def pack_tree(examples: Sequence[Encoded], device: torch.device) -> Packed:
    """Pack the examples into one row (B = 1) in which each shared prefix occurs once.

    The last token of a completion is left out unless another goes on from it: nothing is predicted from there.

    Args:
        examples: in the order of their spans.
        device: where the row will run.
    """
    trie = _Trie()
    paths = [[trie.add((example.prompt + c)[:-1]) for c in example.completions] for example in examples]
    positions = [0] * len(trie)
    for node, (parent, _) in enumerate(trie.index):
        positions[node] = positions[parent] + 1 if parent >= 0 else 0
    places: dict[tuple[int, int], int] = {}  # (node, token to predict there) -> index into `at`
    spans = tuple(
        tuple(
            torch.tensor(
                [places.setdefault(at, len(places)) for at in zip(path[len(example.prompt) - 1 :], c, strict=True)]
            )
            for path, c in zip(of_example, example.completions, strict=True)
        )
        for example, of_example in zip(examples, paths, strict=True)
    )
    return Packed(
        tokens=torch.tensor([token for _, token in trie.index])[None],
        positions=torch.tensor(positions)[None],
        mask=None,
        blocks=lay_out([path for of_example in paths for path in of_example], device),
        at=torch.tensor([state for state, _ in places]),
        targets=torch.tensor([token for _, token in places]),
        spans=spans,
    )


def pad_rows(examples: Sequence[Encoded], pad_id: int) -> Packed:
    """Pad to one completion per row, on the right: for architectures that cannot attend over a trie."""
    sequences = [example.prompt + c for example in examples for c in example.completions]
    width = max(len(s) for s in sequences)
    mask = torch.arange(width) < torch.tensor([len(s) for s in sequences])[:, None]
    at: list[int] = []
    targets: list[int] = []
    spans = []
    row = 0
    for example in examples:
        of_example = []
        for c in example.completions:
            of_example.append(torch.arange(len(targets), len(targets) + len(c)))
            first = row * width + len(example.prompt) - 1
            at.extend(range(first, first + len(c)))
            targets.extend(c)
            row += 1
        spans.append(tuple(of_example))
    return Packed(
        tokens=torch.tensor([[*s, *[pad_id] * (width - len(s))] for s in sequences]),
        positions=torch.arange(width).repeat(len(sequences), 1),
        mask=mask,
        blocks=None,
        at=torch.tensor(at),
        targets=torch.tensor(targets),
        spans=tuple(spans),
    )


def split_tree(examples: Sequence[Encoded], limit: int) -> Iterator[Sequence[int]]:
    """Yield consecutive indices for `pack_tree`, at most `limit` tokens per row; a longer example is alone."""
    trie, run = _Trie(), list[int]()
    for i, example in enumerate(examples):
        for c in example.completions:
            trie.add((example.prompt + c)[:-1])
        if run and len(trie) > limit:
            yield run
            trie, run = _Trie(), []
            for c in example.completions:
                trie.add((example.prompt + c)[:-1])
        run.append(i)
    if run:
        yield run


def split_rows(examples: Sequence[Encoded], limit: int) -> Iterator[Sequence[int]]:
    """Yield consecutive indices for `pad_rows`, at most `limit` tokens per batch, padding included."""
    run, rows, width = list[int](), 0, 0
    for i, example in enumerate(examples):
        here = len(example.completions)
        longest = len(example.prompt) + max(len(c) for c in example.completions)
        if run and (rows + here) * max(width, longest) > limit:
            yield run
            run, rows, width = [], 0, 0
        run.append(i)
        rows, width = rows + here, max(width, longest)
    if run:
        yield run
