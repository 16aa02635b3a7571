"""RMSNorm with its gradient written out (Zhang & Sennrich 2019), for Llama's modules and those that compute the same.

transformers' own forward pass leaves the gradient to autograd: twice the passes over the hidden states, and a float32
copy of them kept for each norm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter


@contextmanager
def fused_norms(model: Module) -> Iterator[None]:
    """Replace the forward pass of the model's frozen RMSNorms by `_RmsNorm`, until the end."""
    norms = [module for module in model.modules() if _plain(module)]
    for module in norms:
        module.forward = MethodType(_forward, module)
    try:
        yield
    finally:
        for module in norms:
            del module.forward


@torch.no_grad()
def _plain(norm: Any) -> bool:
    """Return whether the module is w x / rms(x), computed as Llama's is: others add 1 to w, or multiply in float32."""
    weight = getattr(norm, "weight", None)
    known = type(norm).__name__.endswith("RMSNorm") and hasattr(norm, "variance_epsilon")
    if not known or type(weight) is not Parameter or "forward" in vars(norm):  # a sharded weight, a forward with hooks
        return False
    x = torch.linspace(-3, 3, 2 * len(weight), device=weight.device).view(2, -1).to(weight.dtype)
    return torch.equal(norm(x), _forward(norm, x))


def _forward(norm: Any, x: Tensor) -> Tensor:
    return _RmsNorm.apply(x, norm.weight, norm.variance_epsilon)  # type: ignore[no-untyped-call]  # torch: not annotated


class _RmsNorm(torch.autograd.Function):
    """y = w x / rms(x) with the gradient to x; x / rms(x) in float32 or wider.

    With n = x / rms(x) and g = w d y: d x = (g - n mean(g n)) / rms(x).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """(..., d) and (d,) -> (..., d)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        n = x * scale
        g = (weight * d_y).to(n.dtype)
        share = torch.linalg.vecdot(g, n).unsqueeze(-1) / -n.shape[-1]
        return g.addcmul_(n, share).mul_(scale).to(x.dtype), None, None
