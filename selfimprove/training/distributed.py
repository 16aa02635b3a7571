"""Data-parallel training: each rank computes some of a step's examples; gradients are summed over ranks.

The losses divide by totals of the whole step (see `Objective`), so the sum over processes of what each computes is
what one process would have computed, to rounding. Only the adapter has gradients: a few megabytes travel a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from .packing import Encoded


@dataclass(frozen=True, slots=True)
class Ranks:
    """Rank `rank` of `size` in torch's default process group; a single process needs no group.

    Where the base weights are shared out too, each pass through a layer gathers that layer from all processes, so all
    must take the same passes: in `lockstep`.
    """

    rank: int = 0
    size: int = 1
    lockstep: bool = False

    def part(self, examples: Sequence[Encoded]) -> Sequence[Encoded]:
        """Return this rank's consecutive part of the examples, of about equal numbers of tokens; it may be empty."""
        ends = list(accumulate(e.tokens for e in examples))
        cuts = [sum(end * self.size <= ends[-1] * rank for end in ends) for rank in range(self.size + 1)]
        return examples[cuts[self.rank] : cuts[self.rank + 1]]

    def maximum(self, count: int) -> int:
        """Return the maximum of `count` over ranks."""
        counts = torch.tensor(count, device=device())
        dist.all_reduce(counts, op=dist.ReduceOp.MAX)
        return int(counts)

    def all_reduce(self, parameters: Sequence[torch.nn.Parameter], figures: Sequence[float]) -> list[float]:
        """Sum gradients, in place, and figures over ranks; the result is bitwise equal on all."""
        if self.size == 1:
            return list(figures)
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in grads), grads[0].new_tensor(figures)])
        dist.all_reduce(flat)
        at = 0
        for g in grads:
            g.copy_(flat[at : at + g.numel()].view_as(g))
            at += g.numel()
        return flat[at:].tolist()


ALONE = Ranks()


def shard(model: Any) -> None:
    """Shard the weights of the decoder's layers over all ranks (FSDP2); other weights and adapters are replicated.

    Zhao et al. 2023. Only the layer that computes is whole, for as long as it does.
    """
    mesh = init_device_mesh(device(), (dist.get_world_size(),))
    for layer in model.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    model.to(device())


def device() -> str:
    """Return the device type of the process group's backend."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
