"""Attention over [prefix | own columns] is the softmax over both, row by row."""

import pytest
import torch

from selfimprove.rollout.prefix_attention import Pass, Segment

HEADS, KV_HEADS, SIZE, COLUMNS = 6, 2, 8, 5
PREFIXES = (4, 0, 7)
ROWS = (3, 2, 1)


def row_by_row(query, keys, values, mask, prefix):
    """One row: query (w, H, D), keys and values (Hkv, C, D), mask (w, C), prefix (2, Hkv, P, D)."""
    keys, values = torch.cat([prefix[0], keys], 1), torch.cat([prefix[1], values], 1)
    out = torch.empty_like(query)
    for t in range(len(query)):
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            scores = keys[kv] @ query[t, head] / SIZE**0.5
            scores[prefix.shape[2] :] += mask[t]
            out[t, head] = scores.softmax(-1) @ values[kv]
    return out


@pytest.mark.parametrize("width", [1, 3])
def test_each_row_sees_its_prefix_and_its_own_columns(width):
    torch.manual_seed(0)
    rows = sum(ROWS)
    own = torch.randn(1, 2, rows, KV_HEADS, COLUMNS, SIZE)
    prefixes = [torch.randn(1, 2, KV_HEADS, n, SIZE) for n in PREFIXES]
    stops = torch.tensor(ROWS).cumsum(0).tolist()
    segments = tuple(
        Segment(stop - n, stop, prefix if prefix.shape[3] else None)
        for n, stop, prefix in zip(ROWS, stops, prefixes, strict=True)
    )
    mask = torch.zeros(rows, 1, width, 1, COLUMNS).masked_fill_(torch.rand(rows, 1, width, 1, COLUMNS) < 0.3, -1e9)
    first = COLUMNS - width
    place = None
    if width > 1:  # the tokens of all rows, in a shuffled order
        place = tuple(torch.cartesian_prod(torch.arange(rows), torch.arange(first, COLUMNS))[torch.randperm(18)].T)
    count = rows * width
    query, key, value = torch.randn(1, HEADS, count, SIZE), *torch.randn(2, 1, KV_HEADS, count, SIZE)
    view = Pass(own, segments, first, COLUMNS, mask, place)
    out = view.attend(0, query, key, value, SIZE**-0.5)[0]  # (T, H, D)
    row, column = (torch.arange(rows), torch.full((rows,), first)) if place is None else place
    assert torch.equal(own[0, 0][row, :, column], key[0].transpose(0, 1))
    for t in range(count):
        r = int(row[t])
        prefix = prefixes[next(i for i, stop in enumerate(stops) if r < stop)][0]
        seen = mask[r, 0, int(column[t]) - first]
        expected = row_by_row(query[0, :, t][None], own[0, 0, r], own[0, 1, r], seen, prefix)
        torch.testing.assert_close(out[t], expected[0])
