"""The stages of a round: each takes what earlier stages committed, and commits what it did."""

from .generate import exemplar, revise, sample, stitch
from .judge import select, vote
from .learn import train

__all__ = ["exemplar", "revise", "sample", "select", "stitch", "train", "vote"]
