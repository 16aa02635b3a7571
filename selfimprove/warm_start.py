"""Warm start: supervised fine-tuning of a base model on demonstrations, before self-improvement.

For a user who has some demonstrations: a model that has learnt the answer format gives votes that can be read.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from .config import ModelConfig, TrainConfig
from .engines.engine import TrainingJob
from .engines.local import LocalEngine
from .errors import PromptError
from .exports.export import export
from .models.policy import Policy
from .prompts import Unusable, parse_json, prompt_id, read_messages
from .training import TrainReport
from .types import Example

COMPARED = 8
"""Prompts on which the saved model is compared with the trained one."""


def read_demonstrations(path: Path) -> list[Example]:
    """Return the demonstrations of a JSONL file as training examples of weight 1.

    Each line has `prompt` (or `messages`) and `response`.

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
    """Fine-tune `model` on the examples with LoRA and write the merged model to the new folder `out`.

    Raises:
        ModelError: the model cannot be loaded, or `out` exists.
        TrainingError: training failed; nothing is written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        adapter = Path(temporary) / "adapter"
        engine = LocalEngine(Policy.load(model), lambda _: None)
        report = engine.train(TrainingJob(tuple(examples), spec, seed), adapter)
        conversations = [e.messages for e in examples[:COMPARED]]
        card = f"Fine-tuned on {len(examples)} demonstrations.\n"
        export(model, adapter, out, form="merged", card=card, conversations=conversations)
    return report
