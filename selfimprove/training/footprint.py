"""How much memory this process has taken."""

import resource
import sys


def peak_gb(device: str = "cpu") -> float:
    """Return the most memory held so far, in GB: on a CUDA device since its peak was last reset, else resident."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
