"""A draw follows the distribution that temperature, top-k and top-p describe, and nothing but its key."""

import itertools

import pytest
import torch

from selfimprove.rollout.sampling import draw, gumbel, kept
from selfimprove.types import Sampling

SETTINGS = [
    Sampling(1.0, 0, 1.0, 1),
    Sampling(0.7, 5, 1.0, 1),
    Sampling(1.3, 0, 0.8, 1),
    Sampling(0.9, 6, 0.7, 1),
    Sampling(1.0, 100, 0.05, 1),  # k beyond the vocabulary; a nucleus of one
]


def brute_force(logits, sampling):
    """The distribution, by sorting and summing in Python."""
    weights = [float(x) / sampling.temperature for x in logits]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[: sampling.top_k or None]
    top = max(weights)
    mass = {i: torch.tensor(weights[i] - top, dtype=torch.float64).exp().item() for i in order}
    total = sum(mass.values())
    before = [0.0, *itertools.accumulate(mass[i] / total for i in order)]
    nucleus = [i for i, reached in zip(order, before, strict=False) if reached < sampling.top_p]
    total = sum(mass[i] for i in nucleus)
    return [mass[i] / total if i in nucleus else 0.0 for i in range(len(weights))]


@pytest.fixture(scope="module")
def logits():
    return torch.randn(3, 12, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("sampling", SETTINGS)
def test_what_may_be_drawn_is_what_sorting_by_hand_keeps(logits, sampling):
    values, ids = kept(logits, sampling)
    p = torch.zeros(logits.shape, dtype=torch.float64).scatter(1, ids, values.softmax(-1))
    expected = torch.tensor([brute_force(row, sampling) for row in logits], dtype=torch.float64)
    torch.testing.assert_close(p, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sampling", SETTINGS)
def test_frequencies_are_the_probabilities(logits, sampling):
    n = 20_000
    for row in logits:
        drawn = draw(row.expand(n, -1), torch.arange(n), 3, sampling).bincount(minlength=len(row)) / n
        expected = torch.tensor(brute_force(row, sampling))
        spread = (expected * (1 - expected) / n).sqrt()
        assert ((drawn - expected).abs() <= 4.5 * spread).all()  # also: what is cut is never drawn


class OnMPS(torch.Tensor):
    """Logits that say they are on Apple's GPU, which has no float64."""

    device = torch.device("mps")

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


@pytest.mark.parametrize("sampling", SETTINGS)
def test_where_there_is_no_float64_the_cpu_draws(logits, sampling, monkeypatch):
    expected = draw(logits, torch.arange(3), 3, sampling)
    moved = []
    monkeypatch.setattr(torch.Tensor, "to", lambda drawn, device: moved.append(device) or drawn)
    assert torch.equal(draw(logits.as_subclass(OnMPS), torch.arange(3), 3, sampling), expected)
    assert moved == [torch.device("mps")]


def test_temperature_zero_takes_the_largest(logits):
    assert draw(logits, torch.arange(3), 0, Sampling(0, 50, 1.0, 1)).tolist() == logits.argmax(-1).tolist()


def test_a_draw_depends_on_its_own_key_alone():
    logits = torch.randn(40, 300, generator=torch.Generator().manual_seed(1))
    seeds = torch.arange(40) * 7919
    for sampling in SETTINGS:
        together = draw(logits, seeds, 5, sampling)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
        assert draw(logits[order], seeds[order], 5, sampling).tolist() == together[order].tolist()
        assert [draw(logits[i : i + 1], seeds[i : i + 1], 5, sampling).item() for i in range(40)] == together.tolist()


def test_noise_follows_the_token_not_its_rank():
    noise = gumbel(torch.tensor([5, 6]), 2, torch.tensor([[3, 1, 2], [2, 3, 1]]))
    again = gumbel(torch.tensor([5]), 2, torch.tensor([[1, 2, 3]]))
    assert noise[0].tolist() == [again[0, 2], again[0, 0], again[0, 1]]
    assert noise[0, 0] != noise[1, 1]  # another seed


def test_noise_is_standard_gumbel_across_seeds_places_and_tokens():
    seeds = torch.tensor([0, 1, 2**62, 2**63 - 1, *range(1000, 1046)])
    samples = torch.cat([gumbel(seeds, position, torch.arange(200).expand(50, -1)).flatten() for position in range(5)])
    assert samples.unique().numel() == samples.numel()
    assert samples.mean().item() == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert samples.var().item() == pytest.approx(torch.pi**2 / 6, abs=0.05)
    for shift in (1, 200):  # neighbours in token, and in seed, are unrelated
        pair = torch.stack([samples[:-shift], samples[shift:]])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.02


def test_ties_leave_exactly_k():
    values, ids = kept(torch.zeros(1, 10), Sampling(1.0, 4, 1.0, 1))
    assert values.shape == ids.shape == (1, 4)
