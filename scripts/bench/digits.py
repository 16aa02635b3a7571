#!/usr/bin/env python3
"""Length generalization by self-training: a tiny transformer that was taught short additions learns longer ones.

    python scripts/bench/digits.py --work DIR                   train the base, run every arm; running again resumes
    python scripts/bench/digits.py --arms lmsi --seeds 1 --json one arm, figures as JSON
    python scripts/bench/digits.py --write                      write all finished cells into docs/digits.md, .json

After Lee et al. 2025 (arXiv 2502.01612). tasks/sums.py trains the base from scratch on sums of up to `TAUGHT` digits;
the loop then gets longer ones and no answers: in its first round sums of up to `TAUGHT` + 1 digits, in every round one
digit more, whatever the arm. A round trains on what it agrees on, and that carries the next length.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import torch
from arms import Arm, Cached, configure, merged
from results import insert, put_rows
from tasks.growing import ARMS, TAUGHT, growing
from tasks.quiz import Question, write_questions
from tasks.sums import STEPS, length, questions, read, solve, teach, write

from selfimprove.evaluation.accuracy import audit
from selfimprove.fsio import make_folder, write_json, write_text
from selfimprove.prompts import make_prompt
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import Run, open_run
from selfimprove.seeds import seed_for
from selfimprove.types import VOTERS, Message, Origin, Request, Sampling, Split, Stage, Unit

REACH = 10
"""Digits of the longest sums that the loop is given, and that the figures are measured on."""
SUMS = 60
"""Sums of each length that the loop is given, the held-out ones among them."""
WRITINGS = 4
"""Writings of each train sum that the loop is given."""
TRAINED_TOKENS = 80_000
"""Completion tokens that every arm trains on in a round, about, all epochs counted."""
FRESH = 200
"""Test sums of each length; no run is given them."""
HELDOUT = 0.2
"""Fraction of the prompts that are held out."""
ROUNDS = 8
GOOD = 0.95
WORK = Path("runs") / "digits"
BASE = WORK / "base-0"
"""Folder of the trained base of seed 0."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "digits.md"

SETTINGS: dict[str, Any] = {
    "rounds": ROUNDS,
    "model": {"device": "cpu", "dtype": "float32", "threads": 1},
    "embedder": "hash:64",  # embeddings are not used
    "prompts": {"heldout": HELDOUT},
    "sample": {"k": 4, "temperature": 1.0, "top_k": 0, "max_new_tokens": 2 * REACH + 4, "unit_prompts": 512},
    "propose": {"exemplar": {"k": 0}, "stitch": {"k": 1, "steps": 1}},  # the model reads one sum and no other text
    "vote": {"kind": "short"},
    "select": {"threshold": 0.7, "per_prompt": 1, "near_duplicate": 1.0},
    "train": {"rank": 32, "alpha": 64, "lr": 2e-3, "batch_tokens": 1024, "beta": 0.0, "start": "current"},
    "evaluate": {"k": 4},
    "guard": {
        # Most held-out sums are longer than a round's: the base's answers to them are noise.
        "base_truncation": 1.0,
        "agreement_drop": 1.0,
        "base_share_drop": 1.0,
        "kl": 1e9,
    },
}


def prompts(seed: int) -> Iterator[str]:
    """Yield the prompts of all lengths; no sum is on both sides of the split."""
    for question in questions(range(TAUGHT - 1, REACH + 1), SUMS, "prompts", seed):
        yield question
        if split(question) is Split.TRAIN:
            rng = Random(seed_for("digits", "writings", question))
            writings = (write(read(question), rng) for _ in itertools.count())
            yield from itertools.islice((w for w in writings if split(w) is Split.TRAIN), WRITINGS - 1)


def split(question: str) -> Split:
    """Return the side that the hash of a prompt puts it on."""
    return make_prompt((Message("user", question),), HELDOUT).split


def cell_name(arm: str, seed: int, changes: Sequence[str] = ()) -> str:
    """Return the name of a cell's files, which depends on overridden settings."""
    mark = blake2b(json.dumps(changes).encode(), digest_size=4).hexdigest()
    return f"{arm}-{seed}-{mark}" if changes else f"{arm}-{seed}"


def play(arm: Arm, model: Path, work: Path, seed: int, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Run an arm on the model and return its accuracy by length, of every round and on test sums.

    `rows` holds the figures of every round as docs/results.json has them.
    """
    folder = work / cell_name(arm.name, seed, changes)
    answers = work / f"answers-{seed}"
    for needed in (answers, work / f"prompts-{seed}"):
        make_folder(needed)
    asked = (Question(text, (solve(text),)) for text in prompts(seed))
    prompt_file, audit_file = map(str, write_questions(work / f"prompts-{seed}", asked))
    given = {"seed": seed, "prompts": {"path": prompt_file, "audit": audit_file}, "model": {"path": str(model)}}
    config = configure(arm, merged(SETTINGS, given), changes)
    resume = (folder / "memory.db").is_file()
    with open_run(config, folder=folder, resume=resume, progress=Progress()) as opened:
        run = replace(opened, engine=Cached(opened.engine, opened.policy.fingerprint, answers))
        improve(run, arm.method(TRAINED_TOKENS, growing))
        return {
            "arm": arm.name,
            "seed": seed,
            "decisions": [f"{r.decision}: {r.because}" for r in run.memory.rounds()],
            "rows": rows(run, arm.name),
            "rounds": by_length(run),
            "before": fresh(run, "base"),
            "after": fresh(run, run.memory.current),
        }


def rows(run: Run, arm: str) -> list[dict[str, Any]]:
    """Return, for the base and every round, its figures on the held-out sums and the tokens spent until then."""
    return [
        {
            "task": "digits",
            "arm": arm if round_ else "base",
            "seed": run.config.seed,
            "dtype": run.config.model.dtype,
            "round": round_,
            **found.means(),
            "generated_tokens": sum(
                r.new_tokens for r in run.memory.responses(rounds=range(1, round_ + 1), origins=VOTERS)
            ),
            "trained_tokens": sum(
                (run.memory.result(r, Stage.TRAIN) or {}).get("trained_tokens", 0) for r in range(1, round_ + 1)
            ),
        }
        for round_, found in audit(run).items()
    ]


def by_length(run: Run) -> list[dict[int, float]]:
    """Return greedy accuracy on the held-out sums of each length, for the base and every round."""
    digits = {p.id: length(p.text) for p in run.prompts(Split.HELDOUT)}
    return [
        _shares([(digits[id_], bool(right)) for id_, right in zip(found.prompt_ids, found.greedy, strict=True)])
        for found in audit(run).values()
    ]


def fresh(run: Run, policy: str) -> dict[int, float]:
    """Return greedy accuracy on the test sums of each length."""
    asked = list(questions(range(1, REACH + 1), FRESH, "fresh"))
    requests = tuple(Request(q, Origin.GREEDY, (Message("user", q),), seed=0) for q in asked)
    sampling = Sampling.greedy(run.config.sample.max_new_tokens)
    unit = Unit(0, Stage.GREEDY, 0, requests, sampling, policy)
    answers = [generation.text for _, made in run.engine.generate([unit]) for generation in made]
    return _shares([(length(q), text == solve(q)) for q, text in zip(asked, answers, strict=True)])


def _shares(answered: Sequence[tuple[int, bool]]) -> dict[int, float]:
    """Return the accuracy by number of digits."""
    found: dict[int, list[bool]] = {}
    for digits, right in answered:
        found.setdefault(digits, []).append(right)
    return {digits: sum(right) / len(right) for digits, right in sorted(found.items())}


def reach(accuracy: Mapping[int, float]) -> int:
    """Return the most digits up to which every length is answered right at least 95 % of the time."""
    longest = 0
    for digits, share in sorted(accuracy.items()):
        if share < GOOD:
            break
        longest = digits
    return longest


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the accuracies as Markdown: one row an arm and seed, one column a length."""
    lengths = range(1, REACH + 1)
    lines = [
        "| arm | seed | " + " | ".join(map(str, lengths)) + f" | digits at {GOOD:.0%} |",
        "|---" * (REACH + 3) + "|",
    ]
    rows = [("base", cell["seed"], cell["before"]) for cell in cells] + [
        (cell["arm"], cell["seed"], cell["after"]) for cell in cells
    ]
    for arm, seed, accuracy in dict.fromkeys((arm, seed, tuple(shares.items())) for arm, seed, shares in rows):
        shares = " | ".join(f"{dict(accuracy)[digits]:.2f}" for digits in lengths)
        lines.append(f"| {arm} | {seed} | {shares} | {reach(dict(accuracy))} |")
    return "\n".join(lines)


def main() -> None:
    """Train the base, run the arms and print their accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", default="0", help="numbers, joined by commas")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps of a base")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished cells")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--write", action="store_true", help="write docs/digits.md and results.json")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for matrices this small, more threads only wait for each other
    options.work.mkdir(parents=True, exist_ok=True)
    cells = []
    for seed in map(int, options.seeds.split(",")):
        model = options.work / f"base-{seed}"
        if not model.is_dir():
            teach(model, seed, TAUGHT, options.steps)
        for name in options.arms:
            done = options.work / f"{cell_name(name, seed, options.changes)}.json"
            if not done.is_file():
                write_json(done, play(ARMS[name], model, options.work, seed, options.changes))
            cells.append(_read(done))
    if options.write:
        found = finished(options.work)
        write_text(PAGE, insert(PAGE.read_text(encoding="utf-8"), "digits", table(found)))
        bases = {cell["seed"]: cell["rows"][0] for cell in found}  # the same for all arms of a seed
        learnt = [row for cell in found for row in cell["rows"][1:]]
        put_rows([*bases.values(), *learnt], PAGE.with_name("results.json"))
    print(json.dumps(cells) if options.json else table(cells))


def finished(work: Path) -> list[dict[str, Any]]:
    """Return the finished cells of a folder, seed by seed; those with overridden settings are left out."""
    order = {arm: place for place, arm in enumerate(ARMS)}
    found = [_read(file) for file in work.glob("*.json") if file.stem.rpartition("-")[0] in order]
    return sorted(found, key=lambda cell: (cell["seed"], order[cell["arm"]]))


def _read(done: Path) -> dict[str, Any]:
    """Return the figures of a finished arm, its lengths as integers again."""
    cell = json.loads(done.read_text(encoding="utf-8"))
    for key in ("before", "after"):
        cell[key] = {int(digits): share for digits, share in cell[key].items()}
    return cell


if __name__ == "__main__":
    main()
