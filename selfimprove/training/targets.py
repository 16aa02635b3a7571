"""Weights of a model that get a LoRA adapter.

All linear layers but the output layer, as in QLoRA (Dettmers et al. 2023), and the stacked matrices of a mixture's
experts, each expert with an adapter of its own. PEFT finds the layers by itself ("all-linear"), but of some mixtures it
then misses the experts, of others the dense layers beside them, and it cannot adapt a router.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Embedding, Linear, Module
from transformers.pytorch_utils import Conv1D

_CLAIMED = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
"""Layer names that PEFT takes for the experts' in mixtures; such layers are named by their weights there."""

_FUSED = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
"""Model types whose kernels read the weight of `out_proj` themselves, past an adapter; PEFT refuses it."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Weights with an adapter, by full name, and those without.

    `layers` are linear layers. `weights` are parameters named by themselves: stacked experts (E, m, n), or (m, n).
    `untouched` are the matrices that no adapter reaches, the layer number left out: routers, convolutions.
    `covered` is the fraction of the matrices' parameters, embeddings and output layer aside, that has an adapter.
    """

    layers: tuple[str, ...]
    weights: tuple[str, ...]
    untouched: tuple[str, ...]
    covered: float
    sizes: tuple[tuple[int, int, int], ...]  # (E, m, n) of each
    transposed: bool  # whether layers are Conv1D, which keep their weights as (in, out)

    def adapter_bytes(self, rank: int) -> int:
        """Return the size of an adapter of this rank in float32."""
        return 4 * rank * sum(count * (m + n) for count, m, n in self.sizes)

    def describe(self) -> str:
        """Return what is adapted and what is not, in one line."""
        stacks = [count for count, _, _ in self.sizes if count > 1]
        experts = f", {len(stacks)} of them stacks of {max(stacks)} experts" if stacks else ""
        rest = f"; not trained: {', '.join(self.untouched)}" if self.untouched else ""
        return f"on {len(self.sizes)} matrices{experts}: {self.covered:.0%} of the parameters in matrices{rest}"


def find_targets(model: Any) -> Targets:
    """Return where an adapter goes on a plain transformers model."""
    output = model.get_output_embeddings()
    fused = model.config.get_text_config().model_type in _FUSED
    stacked = {name for name, module in model.named_modules() if _stacks_experts(module)}
    layers, weights, untouched = list[str](), list[str](), dict[str, None]()
    sizes = list[tuple[int, int, int]]()
    reached = total = 0
    for name, module in model.named_modules():
        if module is output or isinstance(module, Embedding):
            continue
        leaf = name.rpartition(".")[2]
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or "bias" in own:
                continue
            count = _elements(module, parameter)
            total += count
            if name in stacked and parameter.ndim == 3:
                weights.append(f"{name}.{own}")
                sizes.append((parameter.shape[0], parameter.shape[1], parameter.shape[2]))
            elif own == "weight" and _is_linear(module) and not (fused and leaf == "out_proj"):
                if stacked and leaf in _CLAIMED and parameter.is_floating_point():
                    weights.append(f"{name}.{own}")
                else:
                    layers.append(name)
                sizes.append((1, *_features(module)))
            else:
                untouched[re.sub(r".*\.\d+\.", "", f"{name}.{own}")] = None
                continue
            reached += count
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in layers)
    return Targets(tuple(layers), tuple(weights), tuple(untouched), reached / max(total, 1), tuple(sizes), transposed)


def _stacks_experts(module: Module) -> bool:
    """Whether the module holds the matrices of all experts of a layer as tensors of three dimensions."""
    own = dict(module.named_parameters(recurse=False))
    return "experts" in type(module).__name__.lower() and any(p.ndim == 3 for p in own.values())


def _is_linear(module: Module) -> bool:
    """Whether the module computes W x + b and nothing else: some routers are subclasses that return more."""
    if isinstance(module, Conv1D):
        return True
    if not isinstance(module, Linear):
        return False
    if not type(module).__module__.startswith("transformers.models."):
        return True
    with torch.no_grad():
        out = module(module.weight.new_zeros(1, module.in_features))
    return isinstance(out, torch.Tensor) and out.shape == (1, module.out_features)


def _features(module: Any) -> tuple[int, int]:
    """Return how many features go in and out; a quantized weight's own shape does not tell."""
    return (module.in_features, module.out_features) if isinstance(module, Linear) else (module.nx, module.nf)


def _elements(module: Any, parameter: Any) -> int:
    """Return the number of weights that a parameter stands for; four bits are packed two to a byte."""
    if not parameter.is_floating_point() and isinstance(module, Linear):
        return module.in_features * module.out_features
    return parameter.numel()
