"""Equal bytes from equal trainings on CUDA, where some kernels add in any order unless they are told not to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

WORKSPACE = ":4096:8"
"""What cuBLAS needs to be deterministic (its documentation, "Results reproducibility")."""


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Let torch choose deterministic kernels on CUDA and warn where there are none; nothing changes elsewhere."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
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
