"""The training loop: gradient accumulation over the rows of each step, AdamW, saving the adapter."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ..config import TrainConfig
from ..errors import TrainingError
from .adapter import attached, save_adapter
from .checkpointing import checkpointed
from .determinism import deterministic
from .distributed import ALONE, Ranks
from .footprint import peak_gb
from .model_split import Network, split_network
from .objective import Figures, Objective, RowFigures
from .packing import Encoded
from .schedule import plan_steps, rate

log = logging.getLogger(__name__)

ROW_TOKENS = {"cpu": 1024, "other": 4096}
"""Longest row by kind of device. Longer ones repeat fewer beginnings and hold more activations."""

OnStep = Callable[[int, int, Figures], None]
"""Called after each optimizer step with its number (from 1), the number of steps and its figures."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Result of a training.

    `completion_tokens` counts the tokens of the chosen completions once, `trained_tokens` all tokens that the loss
    saw over the epochs, `encoded_tokens` those that went through the policy (shared beginnings once, padding too).
    Losses and KL are in nats a token; `history` holds one record an optimizer step. `peak_gb` is the most memory
    that the process has held since it began: of a CUDA device, else of the machine.
    """

    examples: int
    completion_tokens: int
    trained_tokens: int
    encoded_tokens: int
    steps: int
    loss_first: float
    loss_last: float
    kl_last: float | None
    grad_norm_max: float
    peak_gb: float
    wall_s: float
    history: tuple[Figures, ...]

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON takes them."""
        return asdict(self)


def train_adapter(
    model: Any,
    examples: Sequence[Encoded],
    spec: TrainConfig,
    *,
    seed: int,
    out: Path,
    start: Path | None = None,
    pad_id: int = 0,
    base_name: str | None = None,
    base_revision: str | None = None,
    on_step: OnStep | None = None,
    ranks: Ranks = ALONE,
) -> TrainReport:
    """Train a LoRA adapter on `model` and write it to the folder `out` in PEFT format.

    Computes in the model's own dtype; adapter, optimizer state and losses are float32. The same arguments and number
    of threads give the same bytes. The model comes back as it was: plain, its weights untouched.

    Args:
        model: a plain transformers causal language model.
        examples: the survivors.
        spec: method, rank, rates.
        seed: draws the adapter and the order of the examples.
        out: the adapter folder; nothing appears there unless training ends well.
        start: an adapter folder to go on from; the reference is the plain model all the same.
        pad_id: filler token, needed only where examples cannot share a row.
        base_name: name or path of the base model, for adapter_config.json.
        base_revision: commit of a base model from the hub, for adapter_config.json.
        on_step: told about each optimizer step.
        ranks: the processes that train together, all called with the same arguments; rank 0 writes the adapter.

    Raises:
        TrainingError: nothing to train on, a malformed example, a non-finite loss or gradient, or no memory for
            even one example.
    """
    _check(examples)
    began = time.perf_counter()
    device = torch.device(model.device)
    layers_again = checkpointed(model) if spec.checkpointing else nullcontext()
    with deterministic(device):
        network = split_network(model, examples, pad_id)
        steps = plan_steps(examples, spec.epochs, spec.batch_tokens, seed)
        with attached(model, spec, seed=seed, start=start) as policy, layers_again:
            loop = _Loop(policy, network, spec, len(steps), ranks, unmoved=start is None)
            for members in steps:
                loop.step([examples[i] for i in members])
                if on_step is not None:
                    on_step(len(loop.history), len(steps), loop.history[-1])
            if ranks.rank == 0:
                save_adapter(policy, out, base_name, base_revision)
    history = tuple(loop.history)
    return TrainReport(
        examples=len(examples),
        completion_tokens=sum(len(e.completion) for e in examples),
        trained_tokens=spec.epochs * sum(len(c) for e in examples for c in e.completions),
        encoded_tokens=loop.encoded,
        steps=len(history),
        loss_first=history[0]["loss"],
        loss_last=history[-1]["loss"],
        kl_last=history[-1].get("kl"),
        grad_norm_max=max(record["grad_norm"] for record in history),
        peak_gb=peak_gb(str(device)),
        wall_s=time.perf_counter() - began,
        history=history,
    )


class _Loop:
    """Optimizer steps with gradient accumulation over rows."""

    def __init__(
        self,
        policy: PeftModel,
        network: Network,
        spec: TrainConfig,
        steps: int,
        ranks: Ranks,
        *,
        unmoved: bool = False,
    ) -> None:
        self.ranks = ranks
        self.network = network
        self.spec = spec
        self.steps = steps
        self.objective = Objective(policy, network, spec, remember=not ranks.lockstep, unmoved=unmoved)
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=spec.lr, weight_decay=0.0)
        self.row_tokens = ROW_TOKENS["cpu" if network.model.device.type == "cpu" else "other"]
        self.encoded = 0
        self.history: list[Figures] = []

    def step(self, examples: Sequence[Encoded]) -> None:
        """Take one optimizer step; on out-of-memory, halve the rows and retry."""
        number = len(self.history) + 1
        own = self.ranks.part(examples)
        while True:
            try:
                figures, encoded = self._gradients(own, examples)
                break
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error) or self.ranks.lockstep:
                    raise
                self._halve(own)
        names = self.objective.figures
        *values, encoded = self.ranks.all_reduce(
            self.parameters, [*(figures.get(name, 0.0) for name in names), encoded]
        )
        figures = dict(zip(names, values, strict=True))
        self._finite("loss", figures["loss"], number)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.clip))
        self._finite("gradient norm", norm, number)
        lr = self.spec.lr * rate(number - 1, self.steps, self.spec.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.objective.unmoved = False
        self.encoded += int(encoded)
        self.history.append({**figures, "grad_norm": norm, "lr": lr})

    def _gradients(self, own: Sequence[Encoded], step: Sequence[Encoded]) -> tuple[Figures, float]:
        """Accumulate loss, gradients and encoded tokens over this rank's rows of a step."""
        self.optimizer.zero_grad()
        parts: list[RowFigures] = []
        encoded = 0
        rows = [[own[i] for i in members] for members in self.network.rows(own, self.row_tokens)]
        idle = self.ranks.maximum(len(rows)) - len(rows) if self.ranks.lockstep else 0
        for row in rows:
            packed = self.network.pack(row)
            loss, figures = self.objective.row(packed, row, step)
            loss.backward()
            parts.append({"loss": loss.detach(), **figures})
            encoded += packed.encoded
        for _ in range(idle):
            self._keep_step(step)
        total: Counter[str] = Counter()
        for part in parts:  # only now: the host does not wait for a row before it launches the next
            total.update({name: float(value) for name, value in part.items()})
        return dict(total), encoded

    def _keep_step(self, step: Sequence[Encoded]) -> None:
        """Dummy forward and backward with zero loss: keeps FSDP collectives in step."""
        row = [step[0]]
        loss, _ = self.objective.row(self.network.pack(row), row, step)
        (0.0 * loss).backward()

    def _halve(self, examples: Sequence[Encoded]) -> None:
        if len(examples) == 1 or self.row_tokens < min(e.tokens for e in examples):
            longest = max(e.tokens for e in examples)
            raise TrainingError(
                f"out of memory on a single example of up to {longest} tokens; "
                + ("" if self.spec.checkpointing else "set train.checkpointing, ")
                + "use a smaller model or model.quantize, or lower select.length_factor or sample.max_new_tokens"
            ) from None
        self.row_tokens //= 2
        log.warning("out of memory: rows are now at most %d tokens", self.row_tokens)

    def _finite(self, what: str, value: float, number: int) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{what} is {value} at step {number} of {self.steps}; no adapter was written; "
                f"lower train.lr (now {self.spec.lr:g}) or check the model's weights"
            )


def _check(examples: Sequence[Encoded]) -> None:
    if not examples:
        raise TrainingError("no survivors to train on; lower select.threshold or raise sample.k")
    for i, example in enumerate(examples):
        if not example.prompt:
            raise TrainingError(f"example {i} has an empty prompt; nothing predicts its first token")
        if not all(example.completions):
            raise TrainingError(f"example {i} has an empty completion; drop it, or end it with the end-of-turn token")
        if not (math.isfinite(example.weight) and example.weight > 0):
            raise TrainingError(f"example {i} has weight {example.weight}; weights are positive")


def _out_of_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text
