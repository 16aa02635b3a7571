"""Training: survivors in, a LoRA adapter out."""

from .packing import Encoded
from .trainer import TrainReport, train_adapter

__all__ = ["Encoded", "TrainReport", "train_adapter"]
