"""Equal bytes from equal trainings on CUDA, where some kernels add in any order unless they are told not to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

from ..models.loading import reproducible_products


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Let torch choose deterministic kernels on CUDA and warn where there are none; nothing changes elsewhere.

    cuBLAS must have been told before its first product: `models.loading.pick_device` does that, and so does this.
    """
    if device.type != "cuda":
        yield
        return
    reproducible_products()
    before = torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic  # a module whose one setting is a property
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # costs a pass over each new tensor
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        memory.fill_uninitialized_memory = fill
