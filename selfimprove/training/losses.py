"""Loss functions on arrays.

N tokens of a step, d hidden size, V vocabulary. Everything is in nats.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

LOGIT_BYTES = {"cpu": 24 * 2**20, "other": 256 * 2**20}
"""Size of a block of logits, the reference's included. On a CPU below the 32 MiB from which malloc maps, and faults in,
fresh pages each time."""


@dataclass(frozen=True, slots=True)
class Head:
    """From hidden states to logits: cap * tanh(scale * (h W^T + b) / cap), the cap only where the model has one.

    `weight` (V, d) and `bias` (V,) are frozen. `weight` None means that the hidden states are logits already.
    """

    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, d) -> (N, V), in float32 or wider."""
        z = hidden if self.weight is None else F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.scale != 1.0:
            z = z * self.scale
        return z if self.softcap is None else torch.tanh(z / self.softcap) * self.softcap

    def pull_back(self, d_logits: torch.Tensor, logits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Gradient by the logits (N, V) -> gradient by the hidden states (N, d)."""
        if self.softcap is not None:
            d_logits = d_logits * (1 - (logits / self.softcap) ** 2)
        if self.scale != 1.0:
            d_logits = d_logits * self.scale
        return d_logits.to(dtype) if self.weight is None else (d_logits.to(self.weight.dtype) @ self.weight).to(dtype)


def token_losses(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    nll_weight: torch.Tensor,
    reference: torch.Tensor | None = None,
    kl_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (loss, nll, kl), each (N,); only `loss` carries a gradient, and only to `hidden`.

    With p = softmax(logits(hidden)) and q = softmax(logits(reference)):

        nll_i  = -log p_i[target_i]
        kl_i   = sum_v p_i[v] (log p_i[v] - log q_i[v])        exact, over the whole vocabulary; 0 without a reference
        loss_i = nll_weight_i nll_i + kl_weight_i kl_i

    The (N, V) logits never exist: blocks of `LOGIT_BYTES` are turned into losses *and* gradients at once, by

        d nll / dz = p - onehot(target)        d kl / dz = p (log p - log q - kl)

    Args:
        hidden: (N, d) states that predict the targets.
        head: the frozen output layer.
        targets: (N,) token ids.
        nll_weight: (N,).
        reference: (N, d) the frozen reference's states at the same places.
        kl_weight: (N,), needed with `reference`.
    """
    arguments = (hidden, head, targets, nll_weight, reference, kl_weight)
    loss, nll, kl = _TokenLosses.apply(*arguments)  # type: ignore[no-untyped-call]  # torch: not annotated
    return loss, nll, kl


class _TokenLosses(torch.autograd.Function):
    """`token_losses`: the forward pass also computes d loss_i / d hidden_i, the backward pass scales it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: Head,
        targets: torch.Tensor,
        nll_weight: torch.Tensor,
        reference: torch.Tensor | None,
        kl_weight: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        gradient = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        nll = torch.zeros(len(targets), dtype=nll_weight.dtype, device=hidden.device)
        kl = torch.zeros_like(nll)
        vocabulary = hidden.shape[1] if head.weight is None else len(head.weight)
        matrices = 1 if reference is None else 2
        block = max(1, LOGIT_BYTES["cpu" if hidden.device.type == "cpu" else "other"] // (4 * vocabulary * matrices))
        for start in range(0, len(targets), block):
            at = slice(start, start + block)
            logits = head.logits(hidden[at])
            log_p = torch.log_softmax(logits, dim=-1)
            target = targets[at, None]
            nll[at] = -log_p.gather(1, target)[:, 0]
            a = nll_weight[at, None]
            if reference is None or kl_weight is None:
                slope = log_p.exp_().mul_(a)  # a p
            else:
                p = log_p.exp()
                ratio = log_p.sub_(torch.log_softmax(head.logits(reference[at]), dim=-1))  # log p - log q
                kl[at] = torch.linalg.vecdot(p, ratio)
                slope = ratio.sub_(kl[at, None]).mul_(kl_weight[at, None]).add_(a).mul_(p)  # a p + b d kl/dz
            if gradient is not None:
                slope.scatter_add_(1, target, -a)
                gradient[at] = head.pull_back(slope, logits, hidden.dtype)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nll, kl)
        loss = nll_weight * nll if kl_weight is None else nll_weight * nll + kl_weight * kl
        return loss, nll, kl

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * d_loss[:, None].to(gradient.dtype), None, None, None, None, None


def dpo_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Direct preference optimization (Rafailov et al. 2023, eq. 7), one value a pair.

        -log sigmoid(beta ((log p_c - log q_c) - (log p_r - log q_r)))

    Args:
        chosen: (P,) log-probability of the whole chosen completion under the policy.
        rejected: (P,) of the rejected one.
        reference_chosen: (P,) of the chosen one under the reference.
        reference_rejected: (P,) of the rejected one under the reference.
        beta: how sharply the margin is judged.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -F.logsigmoid(beta * margin)
