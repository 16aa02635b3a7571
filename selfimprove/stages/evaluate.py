"""Evaluate: sampled and greedy answers to the held-out prompts, and their label-free metrics."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from ..answers import offers_options
from ..evaluation.families import fall, family_metrics, rise
from ..evaluation.likelihood import kl_to_base
from ..evaluation.metrics import ALL_CUT, Health
from ..evaluation.statistics import concentration
from ..run.folder import adapter_folder
from ..run.session import Run
from ..seeds import seed_for
from ..types import BASE, Origin, Prompt, Request, Response, Sampling, Split, Stage, unit_id
from .calibration import is_echo
from .reading import read_answers
from .units import by_prompt, run_units

KL_COMPLETIONS = 32
"""Number of base completions that the KL is computed on."""


def heldout(run: Run) -> list[Prompt]:
    """Return the held-out prompts to evaluate: all, or the first `evaluate.limit` by id (a hash: a random subset)."""
    prompts = run.prompts(Split.HELDOUT)
    limit = run.config.evaluate.limit or len(prompts)
    chosen = set(sorted(p.id for p in prompts)[:limit])
    return [p for p in prompts if p.id in chosen]


def evaluate(run: Run, round_: int, policy: str | None) -> None:
    """Answer the held-out prompts k times and once greedily with `policy` (no memory) and commit its metrics.

    Nothing is done without a policy: no candidate survived, so none was trained.
    """
    if policy is None:
        return
    if round_ == 0:
        run.progress.say("\nbase")
    _answer(run, round_, policy, heldout(run))
    if run.memory.result(round_, Stage.HEALTH) is None:
        _measure(run, round_, policy)


def remeasure(run: Run, round_: int) -> None:
    """Measure the base and the kept policies again where added prompts change what the guard compares.

    They answer new held-out prompts alone; train prompts may change the families. The new metrics are a further unit of
    their round, which replaces the first.
    """
    size = run.config.sample.unit_prompts
    for earlier in run.memory.standing:
        before = run.at(max(1, earlier))
        first = -(-len(heldout(before)) // size)
        for joined in sorted({j for j in run.joined.values() if max(1, earlier) < j <= round_}):
            then = run.at(joined)
            fresh = [prompt for prompt in heldout(then) if run.joined[prompt.id] == joined]
            changed = fresh or _compared(then) != _compared(before)
            if changed and not run.memory.has_unit(unit_id(earlier, Stage.HEALTH, joined)):
                policy = f"r{earlier:04d}" if earlier else BASE
                if fresh:
                    run.progress.say(f"  {policy} on {len(fresh)} new held-out prompts")
                    _answer(then, earlier, policy, fresh, first)
                else:
                    run.progress.say(f"  {policy} again: new train prompts change the families of the held-out ones")
                _measure(then, earlier, policy, joined)
            first += -(-len(fresh) // size)
            before = then


def _compared(run: Run) -> set[tuple[str, frozenset[str]]]:
    """Return the families that the guard compares: their names and held-out prompts."""
    ids = frozenset(prompt.id for prompt in heldout(run))
    return {(family.name, ids.intersection(family.prompt_ids)) for family in run.families}


def _answer(run: Run, round_: int, policy: str, prompts: Sequence[Prompt], first: int = 0) -> None:
    """Answer held-out prompts k times and once greedily; units count from `first`."""
    k = run.config.evaluate.k

    def plan_probe(batch: Sequence[Prompt]) -> list[Request]:
        # The same seeds in every round: before and after differ by the policy alone.
        return [
            Request(p.id, Origin.PROBE, p.messages, seed_for(run.config.seed, Stage.PROBE, p.id, slot))
            for p in batch
            for slot in range(k)
        ]

    def plan_greedy(batch: Sequence[Prompt]) -> list[Request]:
        return [Request(p.id, Origin.GREEDY, p.messages, seed=0) for p in batch]

    run_units(run, round_, Stage.PROBE, prompts, plan_probe, policy, first=first)
    greedy = Sampling.greedy(run.config.sample.max_new_tokens)
    run_units(run, round_, Stage.GREEDY, prompts, plan_greedy, policy, greedy, first=first)


def _measure(run: Run, round_: int, policy: str, index: int = 0) -> None:
    """Compute and commit the metrics of a round."""
    begun = time.monotonic()
    found = health(run, round_, policy)
    seconds = time.monotonic() - begun
    run.memory.commit_result(round_, Stage.HEALTH, asdict(found), index=index, wall_s=seconds)
    run.progress.line(
        Stage.HEALTH,
        f"agreement {found.agreement:.2f}   with base majority {_two_digits(found.base_majority_share)}   "
        f"top answer {found.concentration:.2f}   parsed {found.parse_rate:.2f}",
        "" if found.kl is None else f"KL {found.kl:.2f}",
        seconds=seconds,
    )


def _two_digits(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def stored_health(run: Run, round_: int) -> Health:
    """Return the health of a round that was measured."""
    stored = run.memory.result(round_, Stage.HEALTH)
    assert stored is not None, f"round {round_} was not measured"
    return Health.of(stored)


def health(run: Run, round_: int, policy: str) -> Health:
    """Compute the label-free health of the committed held-out answers of a round."""
    probes = answers(run, round_, Stage.PROBE)
    base = answers(run, 0, Stage.PROBE)
    sampled: dict[str, list[str | None]] = {}
    base_shares: dict[str, float] = {}
    shares, majorities, echoes = [], [], []
    lengths, cut = [], []
    parsed = total = 0
    for prompt in heldout(run):
        # Both policies' answers are read together, so that their classes can be compared.
        read = read_answers(run, prompt, [*probes[prompt.id], *base[prompt.id]])
        k = len(probes[prompt.id])
        counts, base_counts = _counts(read[:k]), _counts(read[k:])
        sampled[prompt.id] = read[:k]
        lengths += [r.new_tokens for r in probes[prompt.id]]
        cut += [r.finish == "length" for r in probes[prompt.id]]
        parsed += sum(answer is not None for answer in read[:k])
        if not offers_options(prompt.text):
            echoes += [is_echo(answer, prompt.text) for answer in read[:k] if answer is not None]
        total += k
        shares.append(max(counts.values(), default=0) / k)
        if counts:
            majorities.append(_top(counts))
        if base_counts:
            # Each slot is compared with the base's other slots: no sample agrees with a majority for being in it, and
            # a policy's slot draws with the seed of the base's.
            rest = [_others(base_counts, answer) for answer in read[k:]]
            agreeing = [a is not None and a == _top(c) for a, c in zip(read[:k], rest, strict=True)]
            base_shares[prompt.id] = sum(agreeing) / k
    model = run.engine.model_here()
    first = answers(run, 0, Stage.GREEDY)
    completions = [
        (model.encode(p.messages), model.encode_completion(r.text))
        for p in heldout(run)[:KL_COMPLETIONS]
        for r in first[p.id]
    ]
    adapter = adapter_folder(run.folder, policy)
    kl = None if adapter is None else kl_to_base(model, adapter, completions)
    model.use(adapter)
    of_base = stored_health(run, 0).families or () if round_ else ()
    by_family = tuple(m for f in run.families if (m := family_metrics(f, sampled, base_shares)) is not None)
    return Health(
        agreement=float(np.mean(shares)),
        concentration=concentration(majorities),
        mean_tokens=float(np.mean(lengths)),
        truncation=float(np.mean(cut)),
        parse_rate=parsed / total,
        kl=None if kl is None else _finite(kl),
        base_majority_share=float(np.mean(list(base_shares.values()))) if base_shares else None,
        finished_tokens=_finished_tokens(lengths, cut),
        question_echo=float(np.mean(echoes)) if echoes else None,
        families=by_family,
        family_rise=rise(of_base, by_family) if round_ else None,
        family_fall=fall(of_base, by_family) if round_ else None,
    )


def _finished_tokens(lengths: Sequence[int], cut: Sequence[bool]) -> float | None:
    ended = [length for length, truncated in zip(lengths, cut, strict=True) if not truncated]
    return float(np.mean(ended)) if np.mean(cut) <= ALL_CUT else None


def _finite(value: float) -> float | None:
    """A broken policy's numbers are unknown: JSON has no NaN, and the guard fails what is unknown."""
    return value if math.isfinite(value) else None


def _counts(answers: Sequence[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return counts


def _top(counts: Mapping[str, int]) -> str | None:
    """Return the most frequent answer; ties go to the one given first; None without answers."""
    return max(counts, key=lambda answer: counts[answer], default=None)


def _others(counts: Mapping[str, int], answer: str | None) -> dict[str, int]:
    """Return the counts without one vote for `answer`."""
    return {other: left for other, n in counts.items() if (left := n - (other == answer))}


def answers(run: Run, round_: int, stage: Stage) -> dict[str, list[Response]]:
    """Return a round's answers to the held-out prompts, by prompt: sampled or greedy."""
    return by_prompt(run.memory.responses(rounds=[round_], stages=[stage]))
