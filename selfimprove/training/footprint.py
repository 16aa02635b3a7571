"""Peak memory of this process."""

import resource
import sys


def peak_gb(device: str = "cpu") -> float:
    """Return the peak memory of the process in GB: allocated on a CUDA device, else the resident set."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
