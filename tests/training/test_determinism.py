"""Deterministic kernels for a training on CUDA, and the settings as before afterwards."""

import os

import torch

from selfimprove.training.determinism import deterministic
from selfimprove.training.tree_attention import repeat_heads


def test_the_settings_hold_for_a_training_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    with deterministic(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled() and not os.environ
    with deterministic(torch.device("cuda")):
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_repeated_heads_attend_as_grouped_ones():
    query, key, value = (torch.randn(3, heads, 5, 8) for heads in (4, 2, 2))
    attend = torch.nn.functional.scaled_dot_product_attention
    grouped = attend(query, key, value, enable_gqa=True)
    torch.testing.assert_close(attend(query, repeat_heads(key, 4), repeat_heads(value, 4)), grouped)
