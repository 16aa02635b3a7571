#!/usr/bin/env python3
"""Labels of a first round with and without the memory of an earlier run on other prompts (`memory.from`).

    python scripts/bench/next_week.py --seeds 0,1,2
    python scripts/bench/next_week.py --seeds 0 --limit 60 --threads 1   fewer prompts a half, one thread
    python scripts/bench/next_week.py --work DIR      folder of the runs; running again resumes (runs/next_week)

The everyday prompts are halved by hash and seed. A first run samples, votes, recalls and votes on one half. Two runs
do the same on the other half: from nothing, and with `memory.from` the first. Both have the same model, samples and
seeds, and ask for as many recalled answers; their tokens are counted. Nothing is trained or measured on held-out
prompts: the labels are what is compared, with the audit file, which only this script reads.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from arms import Cached

from selfimprove.config import RunConfig
from selfimprove.config_file import load_config
from selfimprove.evaluation.answer_key import Key, is_right, load_audit
from selfimprove.evaluation.statistics import paired_bootstrap
from selfimprove.prompts import load_prompts
from selfimprove.run.progress import Progress
from selfimprove.run.session import Run, open_run
from selfimprove.seeds import seed_for
from selfimprove.stages.recall import recall
from selfimprove.stages.sample import sample
from selfimprove.stages.vote import vote, vote_past
from selfimprove.types import Origin, Poll, Split

ROOT = Path(__file__).resolve().parents[2]
SURE = 0.5
"""Support from which a label is trained on, as `select.threshold` of the quickstart."""

Row = dict[str, Any]
"""The figures of one arm and seed."""


def halves(config: RunConfig, folder: Path, seed: int, limit: int = 0) -> tuple[Path, Path]:
    """Write the two halves of the configured prompts, up to `limit` to learn from in each, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    sides: tuple[list[str], list[str]] = ([], [])
    learnt = [0, 0]
    for prompt in load_prompts(config.prompts).prompts:
        side = seed_for(seed, "half", prompt.id) % 2
        train = prompt.split is Split.TRAIN
        if limit == 0 or not train or learnt[side] < limit:
            sides[side].append(prompt.text)
            learnt[side] += train
    files = folder / f"first-{seed}.jsonl", folder / f"second-{seed}.jsonl"
    for file, texts in zip(files, sides, strict=True):
        file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    return files


def play(config: RunConfig, folder: Path, answers: Path, progress: Progress) -> Row:
    """Run or resume one round up to its votes, and return the figures of its labels."""
    answers.mkdir(parents=True, exist_ok=True)
    with open_run(config, folder=folder, resume=(folder / "memory.db").is_file(), progress=progress) as opened:
        run = replace(opened, engine=Cached(opened.engine, opened.policy.fingerprint, answers))
        vote_past(run, 1)
        sample(run, 1)
        vote(run, 1, Poll.SAMPLED)
        recall(run, 1)
        vote(run, 1, Poll.RECALLED)
        assert config.prompts.audit is not None
        return labels(run, load_audit(config.prompts.audit))


def labels(run: Run, keys: dict[str, Key]) -> Row:
    """Return the figures of the last vote: by prompt, the fraction of the winner's responses that are right."""
    tallies, judged = run.memory.tallies(1, Poll.RECALLED), run.memory.judgements(1, Poll.RECALLED)
    responses = [r for r in run.memory.responses(rounds=[1]) if r.id in judged]
    right = {r.id: is_right(r.text, keys[r.prompt_id]) for r in responses}
    winners: dict[str, list[bool]] = {id_: [] for id_ in tallies}
    for r in responses:
        if judged[r.id].answer is not None and judged[r.id].answer == tallies[r.prompt_id].answer:
            winners[r.prompt_id].append(right[r.id])
    label = {id_: float(np.mean(won)) if won else 0.0 for id_, won in sorted(winners.items())}
    sure = [id_ for id_ in label if tallies[id_].support >= SURE]
    recalled = [r for r in responses if r.origin is Origin.RECALL]
    shown = [parent for r in recalled for parent in r.parents]
    past = run.memory.sources().keys()
    return {
        "labels": label,
        "sure": sure,
        "tokens": sum(r.new_tokens for r in responses),
        "prompt_tokens": sum(r.prompt_tokens for r in responses),
        "recalled": float(np.mean([right[r.id] for r in recalled])) if recalled else 0.0,
        "recalled_for": len({r.prompt_id for r in recalled}),
        "from_memory": float(np.mean([parent in past for parent in shown])) if shown else 0.0,
    }


def compare(rows: Sequence[tuple[Row, Row]], seed: int = 0) -> str:
    """Return a table of the two arms, means over seeds, and the paired change of the labels with its interval."""
    lines = [f"{'':34}{'from nothing':>14}{'memory.from':>14}"]
    figures: dict[str, Callable[[Row], float]] = {
        "right labels, all prompts": lambda row: float(np.mean(list(row["labels"].values()))),
        f"labels with support {SURE:g} or more": lambda row: len(row["sure"]) / len(row["labels"]),
        "  right ones among them": lambda row: float(np.mean([row["labels"][id_] for id_ in row["sure"]] or [0.0])),
        "right recalled answers": lambda row: row["recalled"],
        "demonstrations from the first run": lambda row: row["from_memory"],
        "new tokens": lambda row: row["tokens"],
    }
    for name, figure in figures.items():
        pair = [float(np.mean([figure(pair_of[side]) for pair_of in rows])) for side in (0, 1)]
        lines.append(f"{name:34}" + "".join(f"{value:14,.0f}" if value > 2 else f"{value:14.3f}" for value in pair))
    before, after = (np.array([v for row in rows for v in row[side]["labels"].values()]) for side in (0, 1))
    found = paired_bootstrap(before, after, seed=seed)
    lines.append(
        f"change of right labels {found.diff:+.3f} (95 % {found.low:+.3f} to {found.high:+.3f}, "
        f"{len(before)} prompts, {len(rows)} seed{'s' * (len(rows) > 1)})"
    )
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="numbers, joined by commas")
    parser.add_argument("--work", type=Path, default=Path("runs/next_week"), help="folder of the runs")
    parser.add_argument("--limit", type=int, default=0, help="prompts to learn from in each half; 0: all")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one per core")
    options = parser.parse_args()
    pairs = []
    for seed in map(int, options.seeds.split(",")):
        base = load_config(
            ROOT / "configs/quickstart.yaml",
            (f"seed={seed}", f"model.threads={options.threads}", "prompts.heldout=0.3", "propose.exemplar.k=8",
             "propose.exemplar.below=2"),
        )  # fmt: skip
        work = options.work.resolve()
        files = halves(base, work, seed, options.limit)
        first, second = (
            base.model_copy(update={"prompts": base.prompts.model_copy(update={"path": str(file)})}) for file in files
        )
        name = f"{seed}-{options.limit}"
        play(first, work / f"first-{name}", work / "answers", Progress())
        begun = second.model_copy(
            update={"memory": second.memory.model_copy(update={"from_": str(work / f"first-{name}")})}
        )
        pairs.append(
            (
                play(second, work / f"nothing-{name}", work / "answers", Progress()),
                play(begun, work / f"memory-{name}", work / "answers", Progress()),
            )
        )
    print(compare(pairs))
    (options.work / "rows.json").write_text(json.dumps(pairs) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
