"""Fast generation: prompts share their prefill, finished rows leave, every draw is keyed by its own seed."""

from .generate import Rollout, generate

__all__ = ["Rollout", "generate"]
