#!/usr/bin/env python3
"""Fine-tune a base model on demonstrations before it improves itself.

    python scripts/warm_start.py bundled:smollm2-135m demonstrations.jsonl OUT
    python scripts/warm_start.py my-model demonstrations.jsonl OUT --epochs 3 --lr 1e-4

One JSON object a line, with `prompt` (or `messages`) and `response`. Plain supervised fine-tuning: every demonstration
has weight 1, no KL penalty. OUT becomes a model folder that `model.path` takes.
"""

import argparse
import json
from pathlib import Path

from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.errors import UserError
from selfimprove.warm_start import read_demonstrations, warm_start


def main() -> None:
    """Fine-tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="HF id, local folder, GGUF file or bundled:smollm2-135m")
    parser.add_argument("demonstrations", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    spec = TrainConfig(
        rank=options.rank, alpha=2 * options.rank, lr=options.lr, epochs=options.epochs, batch_tokens=1024, beta=0.0
    )
    try:
        examples = read_demonstrations(options.demonstrations)
        report = warm_start(ModelConfig(path=options.model), examples, options.out, spec, options.seed)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    losses = {"first": report.loss_first, "last": report.loss_last}
    print(json.dumps({"examples": report.examples, "steps": report.steps, "loss": losses, "s": round(report.wall_s)}))


if __name__ == "__main__":
    main()
