"""Fast generation: prompts share their prefill, finished rows leave, every draw is keyed by its own seed."""

from .decode import Rollout
from .generation import generate

__all__ = ["Rollout", "generate"]
