"""Attention over a trie is plain attention of each token over its path, gradients included."""

import pytest
import torch

from selfimprove.training import tree_attention
from selfimprove.training.tree_attention import block_sizes, lay_out

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHORT_PATHS = [[*range(9)], [*range(5), *range(9, 16)], [*range(5), 16], [*range(7), *range(17, 19)]]
LONG_PATHS = [
    [*range(150)],
    [*range(40), *range(150, 260)],
    [*range(40), *range(150, 200), *range(260, 270)],
    [*range(270, 300)],
]
CASES = {  # paths, and the sizes of blocks and groups
    "tiny": (SHORT_PATHS, (4, 5)),
    "tiny, one group": (SHORT_PATHS, (4, 100)),
    "CPU": (LONG_PATHS, block_sizes(CPU, 150)),
    "GPU": (LONG_PATHS, block_sizes(GPU, 150)),
}


def attend(case, short, dtype, monkeypatch, scaling=0.3):
    """Output and gradients by query, key and value: 6 query heads, 2 key/value heads."""
    paths, sizes = CASES[case]
    monkeypatch.setattr(tree_attention, "SHORT", short)
    monkeypatch.setattr(tree_attention, "block_sizes", lambda *_: sizes)
    states, d_out = draw(paths, dtype)
    out = lay_out(paths, CPU).attend(0, *states, scaling=scaling)
    return [out, *torch.autograd.grad(out, states, d_out)]


def draw(paths, dtype):
    generator = torch.Generator().manual_seed(0)
    tokens = 1 + max(token for path in paths for token in path)
    q, k, v, d_out = (
        torch.randn(1, heads, tokens, 8, generator=generator, dtype=torch.float64).to(dtype) for heads in (6, 2, 2, 6)
    )
    return [x.requires_grad_() for x in (q, k, v)], d_out.transpose(1, 2)


def brute_force(case, scaling=0.3):
    """One token and one head at a time over the tokens of its path, in float64."""
    paths, _ = CASES[case]
    states, d_out = draw(paths, torch.float64)
    q, k, v = states
    seen = {token: path[: i + 1] for path in paths for i, token in enumerate(path)}
    rows = []
    for token in range(q.shape[2]):
        of_token = []
        for head in range(6):
            keys, values = k[0, head // 3, seen[token]], v[0, head // 3, seen[token]]
            of_token.append(torch.softmax(scaling * keys @ q[0, head, token], 0) @ values)
        rows.append(torch.stack(of_token))
    out = torch.stack(rows)[None]
    return [out, *torch.autograd.grad(out, states, d_out)]


@pytest.mark.parametrize("short", [1024, 0])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_the_formula(case, short, monkeypatch):
    found, expected = attend(case, short, torch.float64, monkeypatch), brute_force(case)
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() > 0.1
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scaling", [0.3, 0.125])
@pytest.mark.parametrize("case", CASES)
def test_in_bfloat16_it_rounds_as_much_as_torch(case, scaling, monkeypatch):
    exact = attend(case, 0, torch.float64, monkeypatch, scaling)
    found, torchs = (attend(case, short, torch.bfloat16, monkeypatch, scaling) for short in (1024, 0))
    for one, other, truth in zip(found, torchs, exact, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one - truth).norm() < 1.5 * (other - truth).norm() < 0.02 * truth.norm()


def test_scores_of_bfloat16_states_are_not_rounded_to_bfloat16():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, n, 64, generator=generator).bfloat16() for n in (24, 40))
    before = torch.backends.mkldnn.matmul.fp32_precision
    scores = tree_attention._scores(q, k)
    torch.testing.assert_close(scores.double(), q.double() @ k.double().transpose(1, 2), rtol=1e-5, atol=1e-5)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("short", [1024, 0])
def test_a_token_sees_its_path_alone(short, monkeypatch):
    monkeypatch.setattr(tree_attention, "SHORT", short)
    monkeypatch.setattr(tree_attention, "block_sizes", lambda *_: (4, 5))
    q, k, v = (torch.ones(1, 2, 19, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = lay_out(SHORT_PATHS, CPU).attend(0, q, k, v, scaling=0.3)
    for path in SHORT_PATHS:
        (seen,) = torch.autograd.grad(out[0, path[-1]].sum(), v, retain_graph=True)
        assert seen[0, 0, :, 0].nonzero().flatten().tolist() == path


def test_on_a_cpu_paths_of_about_equal_length_share_a_group():
    blocks = lay_out(LONG_PATHS, CPU)
    assert sorted(group.keys.shape[1] for group in blocks.groups) == [64, 128, 150]
    assert max(group.queries.shape[1] for group in blocks.groups) == 32
    (alone,) = lay_out(LONG_PATHS, GPU).groups
    assert alone.queries.shape[1] == 64
    assert alone.keys.shape[1] == 150
