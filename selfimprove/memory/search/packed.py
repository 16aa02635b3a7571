"""Linear layers of the embedder with float32 weights packed for oneDNN.

PyTorch multiplies float32 matrices by MKL, which uses AVX2 on processors that are not Intel's. With AVX-512 oneDNN
does the same product 2.3 times as fast there (AMD Zen 5: 250 and 108 GFLOP/s on one core), in the same precision; the
last bits differ.
"""

from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")


def slow_products() -> bool:
    """Return whether float32 products leave half of the processor's width unused, and oneDNN's can be used instead."""
    import torch

    operators = ("_reorder_linear_weight", "_linear_pointwise")  # private, as torch.compile uses them
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and all(hasattr(torch.ops.mkldnn, name) for name in operators)
        and CPUINFO.is_file()
        and "GenuineIntel" not in CPUINFO.read_text(encoding="utf-8", errors="replace")
    )


def pack_linear(model: Any) -> int:
    """Replace the products of all float32 linear layers on the CPU, for inference alone; return their number."""
    import torch

    found = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear and layer.weight.dtype is torch.float32 and layer.weight.device.type == "cpu"
    ]
    for layer in found:
        _pack(layer)
    return len(found)


def _pack(layer: Any) -> None:
    import torch

    packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
    bias = None if layer.bias is None else layer.bias.detach()

    def forward(x: "torch.Tensor") -> "torch.Tensor":
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

    layer.forward = forward
