"""A trie loses nothing: every completion token is predicted once, from the history that it has in its example."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.training.packing import Encoded, pack_tree, pad_rows, split_rows, split_tree

CPU = torch.device("cpu")

EXAMPLES = [
    Encoded((1, 2, 3), (4, 5, 9), 1.0),
    Encoded((1, 2, 3), (4, 6, 9), 1.0),
    Encoded((1, 2, 7), (4, 9), 1.0, rejected=(8, 9)),
]

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)
encoded = st.builds(Encoded, tokens, tokens, st.just(1.0), st.none() | tokens)


def history(packed, place):
    """The tokens that the state at a place can see, along its path."""
    state = int(packed.at[place])
    place = int(packed.blocks.place[state])
    for group in packed.blocks.groups:
        if place < group.queries.numel():
            break
        place -= group.queries.numel()
    block, query = divmod(place, group.queries.shape[1])
    assert group.queries[block, query] == state
    seen = group.keys[block][group.visible[block, 0, query]]
    assert packed.positions[0, seen].tolist() == list(range(len(seen)))
    return tuple(packed.tokens[0, seen].tolist())


def test_shared_beginnings_are_encoded_once():
    packed = pack_tree(EXAMPLES, CPU)
    # 1 2 3 | 4 5 | 6 | 7 | 4 | 8: the last token of a completion predicts nothing
    assert packed.tokens.tolist() == [[1, 2, 3, 4, 5, 6, 7, 4, 8]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 4, 2, 3, 3]]
    assert packed.spans[0][0][0] == packed.spans[1][0][0]  # both predict 4 after 1 2 3: one place
    assert len(packed.targets) == 3 + 2 + 4


@given(st.lists(encoded, min_size=1, max_size=6), st.sampled_from([(3, 4), (2, 100), None]))
def test_every_completion_token_is_predicted_from_its_own_history(examples, sizes):
    with pytest.MonkeyPatch.context() as patch:
        if sizes:
            patch.setattr("selfimprove.training.tree_attention.block_sizes", lambda *_: sizes)
        packed = pack_tree(examples, CPU)
    for example, of_example in zip(examples, packed.spans, strict=True):
        for completion, span in zip(example.completions, of_example, strict=True):
            assert tuple(packed.targets[span].tolist()) == completion
            for i, place in enumerate(span):
                assert history(packed, place) == example.prompt + completion[:i]


@given(st.lists(encoded, min_size=1, max_size=6))
def test_padded_rows_predict_the_same(examples):
    packed = pad_rows(examples, pad_id=0)
    flat = packed.tokens.flatten()
    width = packed.tokens.shape[1]
    for example, of_example in zip(examples, packed.spans, strict=True):
        for completion, span in zip(example.completions, of_example, strict=True):
            assert tuple(packed.targets[span].tolist()) == completion
            for i, place in enumerate(span):
                state = int(packed.at[place])
                seen = flat[state - state % width : state + 1]
                assert tuple(seen.tolist()) == example.prompt + completion[:i]
    assert int(packed.mask.sum()) == sum(len(e.prompt) + len(c) for e in examples for c in e.completions)


@given(st.lists(encoded, min_size=1, max_size=12), st.integers(1, 40))
def test_splitting_keeps_all_and_the_limit(examples, limit):
    for split, pack in ((split_tree, lambda row: pack_tree(row, CPU)), (split_rows, lambda row: pad_rows(row, 0))):
        runs = list(split(examples, limit))
        assert [i for run in runs for i in run] == list(range(len(examples)))
        for run in runs:
            assert len(run) == 1 or pack([examples[i] for i in run]).encoded <= limit


def test_to_moves_everything_but_the_spans():
    moved = [
        pack(EXAMPLES).to(torch.device("meta")) for pack in (lambda e: pack_tree(e, CPU), lambda e: pad_rows(e, 0))
    ]
    tensors = [getattr(p, f.name) for p in moved for f in fields(p) if isinstance(getattr(p, f.name), torch.Tensor)]
    tensors += [moved[0].blocks.place]
    tensors += [getattr(group, f.name) for group in moved[0].blocks.groups for f in fields(group)]
    assert {t.device.type for t in tensors} == {"meta"}
    assert {span.device.type for p in moved for of_example in p.spans for span in of_example} == {"cpu"}
