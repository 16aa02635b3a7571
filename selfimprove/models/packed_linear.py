"""Linear layers with weights packed once for oneDNN, for products on CPUs without gradients.

bfloat16: PyTorch lets oneDNN lay out the weights anew in every product; packed once, the product has the same bits in
less time, the more so with few rows. The policy is packed while it generates, beside its plain weights.

float32: PyTorch leaves the product to MKL, which uses AVX2 on processors that are not Intel's. With AVX-512 oneDNN does
it 2.3 times as fast there (AMD Zen 5: 250 and 108 GFLOP/s on one core), in the same precision; the last bits differ.
The embedder is packed for good.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

    Forward = Callable[[torch.Tensor], torch.Tensor]

CPUINFO = Path("/proc/cpuinfo")
MEMORY_SHARE = 0.1
"""Largest fraction of the machine's memory that the packed copies of a policy's weights may take."""


@dataclass(frozen=True, slots=True)
class _Packed:
    """A layer, the weight as it was packed (kept, so that another never has its address), and the packed product."""

    layer: Any
    weight: "torch.Tensor"
    version: int
    forward: "Forward"

    def current(self) -> bool:
        """Return whether the layer still has the weights that were packed."""
        weight = self.layer.weight
        return weight.data_ptr() == self.weight.data_ptr() and weight._version == self.version


_policies: "WeakKeyDictionary[Any, list[_Packed]]" = WeakKeyDictionary()


def slow_products() -> bool:
    """Return whether float32 products leave half of the processor's width unused, and oneDNN's can be used instead."""
    import torch

    return (
        _available()
        and torch.backends.mkl.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and CPUINFO.is_file()
        and "GenuineIntel" not in CPUINFO.read_text(encoding="utf-8", errors="replace")
    )


def native_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices natively."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pack_linear(model: Any) -> int:
    """Replace the products of all float32 linear layers on the CPU, for inference alone; return their number."""
    import torch

    found = _layers(model, torch.float32)
    for layer in found:
        layer.forward = _product(layer.weight, layer.bias)
    return len(found)


@contextmanager
def packed_products(model: Any) -> Iterator[None]:
    """Multiply by packed copies of the model's bfloat16 weights where that pays; the plain layers are back at the end.

    For inference alone. The copies are made at the first use, again when the weights have changed (a change in place
    through `.data` is not seen), and freed with the model or by `free_packed`.
    """
    found = _policies.get(model)
    if found is None or not all(packed.current() for packed in found):
        _policies[model] = found = _copies(model)
    used = [packed for packed in found if "forward" not in vars(packed.layer)]  # others' hooks stay
    for packed in used:
        packed.layer.forward = packed.forward
    try:
        yield
    finally:
        for packed in used:
            del packed.layer.forward


def free_packed(model: Any) -> None:
    """Free the packed copies of a model's weights; the next `packed_products` makes them again."""
    _policies.pop(model, None)


def _copies(model: Any) -> list[_Packed]:
    """Return the packed layers of a policy: none without native bfloat16, or where they would take much memory.

    The memory is the machine's, not what is free of it, so that a run can be repeated.
    """
    import torch

    layers = _layers(model, torch.bfloat16)
    if not layers or not _available() or not native_bfloat16():
        return []
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sum(layer.weight.nbytes for layer in layers) > MEMORY_SHARE * memory:
        return []
    return [_Packed(x, x.weight.detach(), x.weight._version, _product(x.weight, x.bias)) for x in layers]


def _layers(model: Any, dtype: "torch.dtype") -> list[Any]:
    import torch

    return [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear
        and layer.weight.dtype is dtype
        and layer.weight.device.type == "cpu"
        and not layer.weight.is_inference()  # changes of such are not counted
    ]


def _available() -> bool:
    import torch

    operators = ("_reorder_linear_weight", "_linear_pointwise")  # private, as torch.compile uses them
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)


def _product(weight: "torch.Tensor", bias: "torch.Tensor | None") -> "Forward":
    import torch

    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    bias = None if bias is None else bias.detach()

    def forward(x: "torch.Tensor") -> "torch.Tensor":
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

    return forward
