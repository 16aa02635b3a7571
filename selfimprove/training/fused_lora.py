"""The LoRA product with its gradient written out (Hu et al. 2021; the backward pass as in Unsloth).

peft's own layer computes the same sum in separate steps: two more passes over every output in each direction, and in
float32 even where the model is in bfloat16. Here the low-rank products are accumulated into the large ones.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor


def fuse(policy: PeftModel) -> None:
    """Replace the forward pass of plain LoRA layers by `_LoraProduct`; other kinds of layer keep theirs."""
    for module in policy.modules():
        if type(module) is Linear and _plain(module):
            module.forward = MethodType(_forward, module)


def _plain(layer: Linear) -> bool:
    """Whether the layer is W x + s B A x without extras such as DoRA or biases."""
    extras = bool(layer.lora_variant) or any(b.bias is not None for b in layer.lora_B.values())
    return type(layer.get_base_layer()) is torch.nn.Linear and not extras


def _forward(layer: Linear, x: Tensor) -> Tensor:
    base = layer.get_base_layer()
    if layer.disable_adapters:
        return base(x)
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    arguments = (x, base.weight, base.bias, a, b, layer.scaling[name])
    return _LoraProduct.apply(*arguments)  # type: ignore[no-untyped-call]  # torch: not annotated


class _LoraProduct(torch.autograd.Function):
    """y = x W^T + bias + s (x A^T) B^T, with gradients to x, A and B; W (out, in), A (r, in), B (out, r)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, s: float) -> Tensor:
        flat = x.flatten(0, -2)  # (N, in)
        low = flat @ a.to(x.dtype).T * s  # (N, r)
        y = F.linear(flat, weight, bias).addmm_(low, b.to(x.dtype).T)
        ctx.save_for_backward(flat, weight, a, b, low)
        ctx.s = s
        return y.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, a, b, low = ctx.saved_tensors
        d_flat = d_y.flatten(0, -2)  # (N, out)
        d_low = d_flat @ b.to(d_y.dtype) * ctx.s  # (N, r)
        d_a = (d_low.T @ flat).to(a.dtype)
        d_b = (d_flat.T @ low).to(b.dtype)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (d_flat @ weight).addmm_(d_low, a.to(d_y.dtype)).unflatten(0, d_y.shape[:-1])
        return d_x, None, None, d_a, d_b, None
