"""Checks of generation, training and export on tiny models, on any device: for gpu.py and, on the CPU, for the tests.

A check takes the folder of a tiny taught model and a device. It raises AssertionError where the device computes
something else than it should, and returns its figures in a line.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from tasks.tiny import SUMS, sum_question, teach
from tasks.tiny_runs import run_it, tiny_config, write_prompts

from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.evaluation.likelihood import kl_to_base
from selfimprove.exports.from_run import export_run
from selfimprove.fsio import folder_digest
from selfimprove.models.policy import Policy
from selfimprove.rollout import Rollout, generate
from selfimprove.rollout.shared_prefix import GROUP_COST, group_cost, group_prompts
from selfimprove.run.folder import adapter_folder
from selfimprove.run.rehearsal import rehearse
from selfimprove.training import Encoded, TrainReport, train_adapter
from selfimprove.training.losses import token_losses
from selfimprove.training.model_split import split_network
from selfimprove.types import BASE, Message, Sampling

NEW_TOKENS = 24
GREEDY = Sampling.greedy(NEW_TOKENS)
SAMPLED = Sampling(0.9, 20, 0.95, NEW_TOKENS)
SPEC = TrainConfig(rank=4, lr=3e-3, epochs=3, batch_tokens=400)


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a check: the folder of the tiny model, and the device."""

    folder: Path
    device: str

    def policy(self, dtype: str = "float32") -> Policy:
        """Load the model."""
        return Policy.load(ModelConfig(path=str(self.folder), device=self.device, dtype=dtype))


def teach_sums(folder: Path, steps: int = 60) -> Path:
    """Write the tiny model that is right about three sums of four."""
    return teach(folder, [(sum_question(a, b), f"{a} plus {b} is {a + b}.") for a, b in SUMS], steps=steps)


def greedy_text(place: Place) -> str:
    """Greedy tokens of a batch equal those of transformers' `generate`, each prompt alone."""
    policy = place.policy()
    rows = [policy.encode([Message("user", sum_question(a, b))]) for a, b in SUMS[:12]]
    return _same_as_generate(policy, rows)


def shared_prefixes(place: Place) -> str:
    """The same for prompts that begin with the same demonstrations, as those of recall do."""
    policy = place.policy()
    shown = []
    for a, b in SUMS[:3]:
        shown += [Message("user", sum_question(a, b)), Message("assistant", f"{a} plus {b} is {a + b}.")]
    rows = [policy.encode([*shown, Message("user", sum_question(a, b) * (1 + a))]) for a, b in SUMS[3:15]]
    with patch.dict(GROUP_COST, other=GROUP_COST["cpu"]):  # so few rows share nothing on an accelerator
        shared = max(group.shared for group in group_prompts(rows, group_cost(policy.device)))
        assert shared > 100, f"prompts of {len(rows[0])} tokens share only {shared}"
        return f"{shared} tokens shared; {_same_as_generate(policy, rows)}"


def _same_as_generate(policy: Policy, rows: Sequence[Sequence[int]]) -> str:
    ours = [list(r.token_ids) for r in _rollouts(policy, rows, GREEDY)]
    theirs = []
    for ids in rows:
        tokens = torch.tensor([ids], device=policy.device)
        out = policy.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=list(policy.eos_ids),
            pad_token_id=policy.pad_id,
        )
        theirs.append([t for t in out[0, len(ids) :].tolist() if t not in (*policy.eos_ids, policy.pad_id)])
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert equal == len(rows), f"{equal} of {len(rows)} greedy texts equal, such as {ours[0]} for {theirs[0]}"
    return f"{equal} of {len(rows)} greedy texts equal"


def _rollouts(policy: Policy, rows: Sequence[Sequence[int]], sampling: Sampling) -> list[Rollout]:
    seeds = range(1, len(rows) + 1)
    return generate(policy.model, rows, seeds, sampling, eos_ids=policy.eos_ids, pad_id=policy.pad_id)


def distribution(place: Place, draws: int = 4000) -> str:
    """First tokens are drawn as often as the model's own softmax says, within five standard errors."""
    policy, top = place.policy(), 5
    ids = policy.encode([Message("user", sum_question(2, 3))])
    with torch.inference_mode():
        values, tokens = policy.model(torch.tensor([ids], device=policy.device)).logits[0, -1].double().topk(top)
    p = (values / 2.0).softmax(-1)
    drawn = generate(policy.model, [ids] * draws, range(draws), Sampling(2.0, top, 1.0, 1), eos_ids=(), pad_id=0)
    found = torch.tensor([r.token_ids[0] for r in drawn], device=policy.device)
    assert bool(torch.isin(found, tokens).all()), "a token outside the top k was drawn"
    seen = (found[:, None] == tokens).double().mean(0)
    off = float(((seen - p).abs() / (p * (1 - p) / draws).sqrt().clamp_min(1e-9)).max())
    assert off < 5, f"a token's frequency is {off:.1f} standard errors off"
    return f"{draws} draws, at most {off:.1f} standard errors off"


def repeated(place: Place) -> str:
    """The same seeds give the same tokens, and the same training the same bytes."""
    policy = place.policy()
    rows = [policy.encode([Message("user", sum_question(a, b))]) for a, b in SUMS for _ in range(8)]
    first, second = (_rollouts(policy, rows, SAMPLED) for _ in range(2))
    assert first == second, f"{sum(a != b for a, b in zip(first, second, strict=True))} of {len(rows)} rollouts differ"
    assert len({r.token_ids for r in first}) > len(SUMS) / 2, "samples do not vary"
    with tempfile.TemporaryDirectory() as name:
        digests = set()
        for run in ("a", "b"):
            _train(policy, Path(name) / run)
            digests.add(folder_digest(Path(name) / run))
    assert len(digests) == 1, "two trainings wrote different adapters"
    return f"{len(rows)} rollouts and an adapter, twice"


def stop_strings(place: Place) -> str:
    """Rows end where their text first holds a stop string, however late that is looked for."""
    policy = place.policy()
    rows = [policy.encode([Message("user", sum_question(a, b))]) for a, b in SUMS]
    (wanted,) = policy.plain("s")

    def generated(stop: Callable[[Sequence[int]], bool] | None) -> list[Rollout]:
        seeds = range(len(rows))
        return generate(policy.model, rows, seeds, SAMPLED, eos_ids=policy.eos_ids, pad_id=policy.pad_id, stop=stop)

    whole, cut = generated(None), generated(lambda ids: wanted in ids)
    ends = [r.token_ids.index(wanted) + 1 if wanted in r.token_ids else len(r.token_ids) for r in whole]
    assert [r.token_ids for r in cut] == [r.token_ids[:end] for r, end in zip(whole, ends, strict=True)]
    return f"{sum(wanted in r.token_ids for r in whole)} of {len(rows)} rows stopped"


def training(place: Place) -> str:
    """The loss falls, the KL is there, and the adapter computes the same beside the base and merged into it."""
    policy = place.policy()
    with tempfile.TemporaryDirectory() as name:
        adapter = Path(name) / "adapter"
        report = _train(policy, adapter)
        assert report.loss_last < 0.8 * report.loss_first, f"loss {report.loss_first:.3f} -> {report.loss_last:.3f}"
        assert report.kl_last is not None and 0 < report.kl_last < 20, f"KL {report.kl_last}"
        ids = torch.tensor([policy.encode([Message("user", sum_question(1, 4))])], device=policy.device)
        with torch.inference_mode():
            base = policy.model(ids).logits
            beside = Policy.attach(policy.model, adapter)(ids).logits
            policy.release()
            policy.use(adapter)
            merged = policy.model(ids).logits
        gap, moved = (float((x - beside).abs().max()) for x in (merged, base))
        assert gap < 1e-3 < moved, f"merged and attached differ by {gap:.2g}, base and adapter by {moved:.2g}"
        apart = kl_to_base(policy, adapter, [(e.prompt, e.completion) for e in _examples_as_lists(policy)])
        assert 0 < apart < 20, f"KL to the base {apart}"
    return f"loss {report.loss_first:.2f} -> {report.loss_last:.2f}, KL {report.kl_last:.3f}, merging moves {gap:.1g}"


@dataclass(frozen=True, slots=True)
class _Lists:
    prompt: list[int]
    completion: list[int]


def _examples_as_lists(policy: Policy) -> list[_Lists]:
    return [_Lists(list(e.prompt), list(e.completion)) for e in _examples(policy)]


def variants(place: Place) -> str:
    """Checkpointing changes no loss, and preference pairs train."""
    policy = place.policy()
    with tempfile.TemporaryDirectory() as name:
        plain = _train(policy, Path(name) / "plain", epochs=1)
        again = _train(policy, Path(name) / "again", epochs=1, checkpointing=True)
        gap = max(abs(a["loss"] - b["loss"]) for a, b in zip(plain.history, again.history, strict=True))
        assert gap < 1e-3, f"checkpointing changes the loss by {gap:.2g}"
        pairs = _train(policy, Path(name) / "pairs", rejected=True, method="preference")
    assert pairs.loss_last < pairs.loss_first, f"preference loss {pairs.loss_first:.3f} -> {pairs.loss_last:.3f}"
    return f"checkpointing moves the loss by {gap:.1g}; preference {pairs.loss_first:.2f} -> {pairs.loss_last:.2f}"


def log_probabilities(place: Place) -> str:
    """The losses of packed examples are those of a plain forward pass over each."""
    policy = place.policy()
    examples = _examples(policy)
    network = split_network(policy.model, examples, policy.pad_id)
    assert network.tree, "examples cannot share a row on this device"
    with torch.inference_mode():
        packed = network.pack(examples)
        ones = torch.ones(len(packed.targets), device=policy.device)
        _, found, _ = token_losses(network.states(packed), network.head, packed.targets, ones)
        gap = 0.0
        for example, (span, *_) in zip(examples, packed.spans, strict=True):
            ids = torch.tensor([example.prompt + example.completion], device=policy.device)
            logits = policy.model(ids).logits[0, len(example.prompt) - 1 : -1]
            plain = F.cross_entropy(logits.float(), ids[0, len(example.prompt) :], reduction="none")
            gap = max(gap, float((found[span.to(found.device)] - plain).abs().max()))
    assert gap < 1e-3, f"log-probabilities differ by {gap:.2g} nats"
    return f"{len(ones)} tokens, at most {gap:.1g} nats off"


def half_precision(place: Place) -> str:
    """Rehearsal of a round in bfloat16: generate, train a step, merge, compare."""
    found = rehearse(place.policy("bfloat16"), SPEC, [(Message("user", sum_question(a, b)),) for a, b in SUMS[:4]])
    return f"{found.kept:.0%} of the adapter's effect is left in the merged model"


def whole_run(place: Place) -> str:
    """Two rounds through every stage, an export, and the exported model's greedy text on this device."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = tiny_config(place.folder, write_prompts(folder / "p.jsonl"))
        model = config.model.model_copy(update={"device": place.device})
        summary = run_it(config.model_copy(update={"model": model}), folder / "run")
        kept = summary.figures["rounds_kept"]
        assert summary.figures["current"] != BASE, "no round was kept, with all limits open"
        said = export_run(folder / "run", folder / "out", form="merged")
        run = place.policy()
        rows = [run.encode([Message("user", sum_question(a, b))]) for a, b in SUMS[:8]]
        run.use(adapter_folder(folder / "run", summary.figures["current"]))
        before = _rollouts(run, rows, GREEDY)
        exported = Place(folder / "out", place.device).policy()
        equal = sum(a == b for a, b in zip(before, _rollouts(exported, rows, GREEDY), strict=True))
    assert equal >= len(rows) - 1, f"{equal} of {len(rows)} greedy texts of the exported model equal"
    return f"{kept} rounds kept, {summary.figures['wall_s']:.0f} s; {said.splitlines()[-1]}"


def _examples(policy: Policy, rejected: bool = False) -> list[Encoded]:
    other = tuple(policy.encode_completion("I do not know.")) if rejected else None
    return [
        Encoded(
            tuple(policy.encode([Message("user", sum_question(a, b))])),
            tuple(policy.encode_completion(text.format(a + b))),
            1.0,
            other,
        )
        for a, b in SUMS[:10]
        for text in ("It is {}.", "I say {}, for sure.")
    ]


def _train(policy: Policy, out: Path, rejected: bool = False, **changes: object) -> TrainReport:
    spec = SPEC.model_copy(update=changes)
    return train_adapter(policy.model, _examples(policy, rejected), spec, seed=0, out=out, pad_id=policy.pad_id)


CHECKS: dict[str, Callable[[Place], str]] = {
    check.__name__: check
    for check in (
        greedy_text,
        shared_prefixes,
        distribution,
        repeated,
        stop_strings,
        log_probabilities,
        training,
        variants,
        half_precision,
        whole_run,
    )
}
