"""Sample: k responses a prompt from the current policy."""

from collections.abc import Sequence

from ..run.session import Run
from ..seeds import seed_for
from ..types import Origin, Prompt, Request, Split, Stage
from .units import run_units


def sample(run: Run, round_: int) -> None:
    """Answer every train prompt k times with the current policy."""

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return [
            Request(p.id, Origin.SAMPLE, p.messages, seed_for(run.config.seed, round_, Stage.SAMPLE, p.id, slot))
            for p in batch
            for slot in range(run.config.sample.k)
        ]

    run_units(run, round_, Stage.SAMPLE, run.prompts(Split.TRAIN), plan, run.memory.current)
