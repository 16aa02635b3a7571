"""Two methods that are reported to hold in later rounds, as arms of the comparison.

`scrl` after SCRL (Yan et al. 2026, arXiv 2603.19880): strict consensus for positive labels, and negatives, answers that
hardly any sample gives, where there is no consensus. Theirs is online reinforcement learning with rewards; here both
are preference pairs with an NLL term, the package's own offline loss.

`slow-labels` after Co-rewarding-II (Zhang et al. 2025, arXiv 2508.00410): the labels are the votes of a slowly moving
average of the policy, the training examples the policy's own samples. Theirs moves with every step, here with every
round; half of a round's samples are the teacher's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from selfimprove.fsio import new_folder, write_json
from selfimprove.run.folder import adapter_folder
from selfimprove.run.session import Run
from selfimprove.seeds import seed_for
from selfimprove.stages.guard import with_care
from selfimprove.stages.vote import Ballot, Votes, majority
from selfimprove.types import Example, Finish, Origin, Poll, Request, Response, Split, Stage, Unit, unit_id

MARGIN = 0.25
"""Least margin of a positive label: the winner's fraction of the votes less the runner-up's."""
RARE = 0.15
"""Largest fraction of the votes of a negative."""
NEGATIVE_WEIGHT = 0.1
"""Weight of a pair without consensus; the least weight that `select` gives."""
SLOWNESS = 0.5
"""Weight that the average of a round keeps of the average before it."""
TEACHER_UNITS = 1000
"""Index of the first unit of the teacher's samples."""


def gated(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Majority vote in which a prompt with a margin below `MARGIN` has no label."""
    tallies, judgements = majority(run, round_, ballots_P)
    return [t if t.margin >= MARGIN else replace(t, answer=None) for t in tallies], judgements


def negatives(run: Run, round_: int) -> list[Example]:
    """Return a pair for each prompt that the gate left without a label: the top answer over the rarest one.

    Prompts whose rarest answer has more than `RARE` of the votes have none.
    """
    judgements = run.memory.judgements(round_, Poll.FINAL)
    tallies = run.memory.tallies(round_, Poll.FINAL)
    texts = {r.id: r for r in run.memory.responses(ids=list(judgements)) if r.finish is Finish.STOP}
    groups: dict[str, list[tuple[float, int, Response]]] = {}
    for id_, response in texts.items():
        share = judgements[id_].share
        if share is not None and tallies[response.prompt_id].answer is None:
            groups.setdefault(response.prompt_id, []).append((share, id_, response))
    prompts = {p.id: p for p in run.prompts(Split.TRAIN)}
    found = []
    for prompt_id, group in groups.items():
        (least, _, rejected), (most, _, chosen) = min(group), max(group)
        if least <= RARE and least < most:
            messages = prompts[prompt_id].messages
            found.append(Example(prompt_id, messages, chosen.text, NEGATIVE_WEIGHT, chosen.id, rejected.text))
    return found


def with_teacher(run: Run, round_: int) -> Run:
    """Return the run of a round in which the teacher, the average of the policies so far, gives half of the samples.

    In round 1 both are the base, which gives all of them. The teacher's samples are committed here.
    """
    run = with_care(run, round_)
    half = run.config.sample.k // 2
    teacher = average(run, round_) if half else None
    if teacher is None:
        return run
    sampling = run.config.sample.sampling()
    prompts = run.prompts(Split.TRAIN)
    size = run.config.sample.unit_prompts

    def units() -> Iterator[Unit]:
        for number, start in enumerate(range(0, len(prompts), size), TEACHER_UNITS):
            if not run.memory.has_unit(unit_id(round_, Stage.SAMPLE, number)):
                asked = tuple(
                    Request(p.id, Origin.SAMPLE, p.messages, seed_for(run.config.seed, round_, "teacher", p.id, slot))
                    for p in prompts[start : start + size]
                    for slot in range(half)
                )
                yield Unit(round_, Stage.SAMPLE, number, asked, sampling, teacher)

    for unit, made in run.engine.generate(units()):
        run.memory.commit_unit(unit, made, None, wall_s=0.0)
    sample = run.config.sample.model_copy(update={"k": run.config.sample.k - half})
    return replace(run, config=run.config.model_copy(update={"sample": sample}))


def average(run: Run, round_: int) -> str | None:
    """Write the adapter of the average and return its name; None while no round has trained one.

    average(1) = the base, average(r) = `SLOWNESS` average(r - 1) + (1 - `SLOWNESS`) policy(r - 1). Each policy is the
    base plus low-rank products, so their average is one adapter whose rank is the sum of theirs.
    """
    parts: dict[Path, float] = {}
    for before in range(1, round_):
        folder = adapter_folder(run.folder, f"r{before:04d}")
        assert folder is not None
        if folder.is_dir():
            parts = {name: weight * SLOWNESS for name, weight in parts.items()} | {folder: 1 - SLOWNESS}
    if not parts:
        return None
    name = f"average-{round_:04d}"
    out = adapter_folder(run.folder, name)
    assert out is not None
    if not out.is_dir():
        write_average(parts, out)
    return name


def write_average(parts: Mapping[Path, float], out: Path) -> None:
    """Write sum(weight * B A * alpha / r) over LoRA adapter folders as one adapter."""
    loaded = [
        (weight, json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")), load_adapter(folder))
        for folder, weight in parts.items()
    ]
    rank = sum(config["r"] for _, config, _ in loaded)
    tensors = {}
    for name in loaded[0][2]:
        if ".lora_A." in name:
            tensors[name] = torch.cat([adapter[name] for _, _, adapter in loaded], dim=0)  # (sum r, in)
        else:
            scaled = [adapter[name] * weight * config["lora_alpha"] / config["r"] for weight, config, adapter in loaded]
            tensors[name] = torch.cat(scaled, dim=1)  # (out, sum r)
    with new_folder(out) as folder:
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        write_json(folder / "adapter_config.json", loaded[0][1] | {"r": rank, "lora_alpha": rank})


def load_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter folder, by name."""
    tensors: dict[str, torch.Tensor] = load_file(folder / "adapter_model.safetensors")
    return tensors


def taught_votes(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Majority vote of the teacher's samples, by which the policy's own are judged; in round 1 all samples vote.

    The teacher's samples are no candidates for training: their answers are left out.
    """
    ids = [ballot.response_id for ballots in ballots_P.values() for ballot in ballots]
    of_teacher = {r.id for r in run.memory.responses(ids=ids) if r.policy.startswith("average-")}
    if not of_teacher:
        return majority(run, round_, ballots_P)
    weighed = {
        prompt_id: [b if b.response_id in of_teacher else replace(b, weight=0.0) for b in ballots]
        for prompt_id, ballots in ballots_P.items()
    }
    tallies, judgements = majority(run, round_, weighed)
    return tallies, [replace(j, answer=None, share=None) if j.response_id in of_teacher else j for j in judgements]
