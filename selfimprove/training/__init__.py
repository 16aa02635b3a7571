"""LoRA fine-tuning on survivors."""

from .packing import Encoded
from .trainer import TrainReport, train_adapter

__all__ = ["Encoded", "TrainReport", "train_adapter"]
