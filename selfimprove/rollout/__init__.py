"""Batched generation: shared prefixes are computed once, finished rows are removed, draws are keyed by seed."""

from .decode import Rollout
from .generation import generate

__all__ = ["Rollout", "generate"]
