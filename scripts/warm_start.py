#!/usr/bin/env python3
"""Fine-tune a base on a few demonstrations, as a user who has some would do before letting it improve itself.

    python scripts/warm_start.py bundled:smollm2-135m demonstrations.jsonl OUT
    python scripts/warm_start.py my-model demonstrations.jsonl OUT --epochs 3 --lr 1e-4

One JSON object a line, with `prompt` (or `messages`) and `response`. Plain fine-tuning: no votes, no KL, every
demonstration weighs the same. OUT becomes a model folder that `model.path` takes.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.engines.engine import TrainingJob
from selfimprove.engines.local import LocalEngine
from selfimprove.errors import PromptError, UserError
from selfimprove.exports.export import export
from selfimprove.models.policy import Policy
from selfimprove.prompts import Unusable, parse_json, prompt_id, read_messages
from selfimprove.training import TrainReport
from selfimprove.types import Example

COMPARED = 8
"""Prompts on which the saved model is compared with the trained one."""


def read_demonstrations(path: Path) -> list[Example]:
    """Return the demonstrations of a file as training examples of weight 1.

    Raises:
        PromptError: the file cannot be read, holds none, or a line is malformed.
    """
    examples = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise PromptError(f"cannot read the demonstrations in {path}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            messages, response = read_messages(row), row.get("response")
            if not isinstance(response, str) or not response.strip():
                raise Unusable("response must be a text")
        except Unusable as fault:
            raise PromptError(f"{path}, line {number}: {fault}") from None
        examples.append(Example(prompt_id(messages), messages, response.strip(), 1.0, number))
    if not examples:
        raise PromptError(f"{path} holds no demonstrations")
    return examples


def warm_start(model: ModelConfig, examples: Sequence[Example], out: Path, spec: TrainConfig, seed: int) -> TrainReport:
    """Write `model`, fine-tuned on the examples, to the new folder `out`.

    Raises:
        ModelError: the model cannot be loaded, or `out` exists.
        TrainingError: training went wrong; nothing is written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        adapter = Path(temporary) / "adapter"
        engine = LocalEngine(Policy.load(model), lambda _: None)
        report = engine.train(TrainingJob(tuple(examples), spec, seed), adapter)
        conversations = [e.messages for e in examples[:COMPARED]]
        card = f"Fine-tuned on {len(examples)} demonstrations.\n"
        export(model, adapter, out, form="merged", card=card, conversations=conversations)
    return report


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
