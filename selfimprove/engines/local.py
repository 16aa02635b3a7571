"""The default engine: one model on one device, in this process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..models.packed_linear import free_packed
from ..models.policy import Policy
from ..rollout import generate
from ..training import Encoded, TrainReport, train_adapter
from ..types import Example, Finish, Generation, Request, Unit
from .engine import OnStep, OnTokens, TrainingJob


class LocalEngine:
    """Generation and training with a `Policy` in this process.

    On one machine, with one number of threads, equal units give equal generations and equal jobs equal adapter files.
    """

    def __init__(self, policy: Policy, adapter_of: Callable[[str], Path | None], batch_size: int = 0) -> None:
        """`adapter_of` maps a policy's name to its adapter folder, None for the base; `batch_size` 0 is automatic."""
        self.policy = policy
        self.adapter_of = adapter_of
        self.batch_size = batch_size

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with its generations, one after the other; see `Engine.generate`."""
        for unit in units:
            yield unit, self.answer(unit, on_tokens)

    def answer(self, unit: Unit, on_tokens: OnTokens | None = None) -> list[Generation]:
        """Return one generation per request of the unit, in order."""
        policy = self.policy
        policy.use(self.adapter_of(unit.policy))
        prompts = encode_requests(policy, unit.requests)
        rollouts = generate(
            policy.model,
            prompts,
            [r.seed for r in unit.requests],
            unit.sampling,
            eos_ids=policy.eos_ids,
            pad_id=policy.pad_id,
            batch_size=self.batch_size,
            on_tokens=on_tokens,
            stop=policy.stop,
        )
        return [
            read_generation(policy, rollout.token_ids, rollout.finish, request.prefix, len(prompt))
            for request, prompt, rollout in zip(unit.requests, prompts, rollouts, strict=True)
        ]

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train a LoRA adapter and write it to `out`; see `Engine.train`."""
        policy = self.policy
        policy.use(None)
        free_packed(policy.model)
        return train_adapter(
            policy.model,
            encode_examples(policy, job.examples),
            job.spec,
            seed=job.seed,
            out=out,
            start=self.adapter_of(job.start) if job.start else None,
            pad_id=policy.pad_id,
            base_name=policy.config.path,
            base_revision=policy.config.commit,
            on_step=on_step,
        )

    def model_here(self) -> Policy:
        """Return the model, with the adapter that was used last."""
        return self.policy

    def close(self) -> None:
        """Do nothing: this engine has no processes."""


def encode_requests(policy: Policy, requests: Sequence[Request]) -> list[list[int]]:
    """Return the prompt ids of each request; those of equal prompts are computed once."""
    asked = [(r.messages, r.prefix) for r in requests]
    encoded = {prompt: policy.encode(*prompt) for prompt in dict.fromkeys(asked)}
    return [encoded[prompt] for prompt in asked]


def read_generation(policy: Policy, ids: Sequence[int], finish: Finish, prefix: str, prompt_tokens: int) -> Generation:
    """Return the generation of token `ids` after `prefix`; its finish is STOP if a stop string ends the text."""
    turn = policy.read(ids, prefix)
    return Generation(turn.text, Finish.STOP if turn.stopped else finish, prompt_tokens, turn.tokens)


def encode_examples(policy: Policy, examples: Sequence[Example]) -> list[Encoded]:
    """Return the token ids of the examples; completions include the end-of-turn token."""
    return [
        Encoded(
            prompt=tuple(policy.encode(e.messages)),
            completion=tuple(policy.encode_completion(e.completion)),
            weight=e.weight,
            rejected=None if e.rejected is None else tuple(policy.encode_completion(e.rejected)),
        )
        for e in examples
    ]
