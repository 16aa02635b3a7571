"""Packed linear layers of the embedder: the same function at float32 precision, and only where it is worth it."""

import pytest
import torch

from selfimprove.models import packed_linear as packed


@pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not torch.backends.mkldnn.is_available(),
    reason="needs oneDNN",
)
def test_packed_layers_are_the_same_function_whatever_the_batch():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.GELU(), torch.nn.Linear(40, 8, bias=False)).eval()
    inputs = [torch.randn(shape) for shape in ((3, 24), (2, 5, 24), (130, 24))]
    with torch.inference_mode():
        before = [model(x) for x in inputs]
        assert packed.pack_linear(model) == 2
        for x, expected in zip(inputs, before, strict=True):
            torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_layers_of_another_precision_stay_as_they_are():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4).bfloat16())
    assert packed.pack_linear(model) == 0


def test_intels_processors_keep_their_own_product(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text("vendor_id : GenuineIntel\n")
    monkeypatch.setattr(packed, "CPUINFO", info)
    assert not packed.slow_products()
