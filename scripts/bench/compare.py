#!/usr/bin/env python3
"""Comparison of arms (methods) on tasks over seeds, at equal generated and equal trained tokens.

    python scripts/bench/compare.py --arms base,ssd,lmsi,ours,oracle,random-vote --tasks everyday,arith --seeds 0,1,2
    python scripts/bench/compare.py --work DIR         folder of cells; running again resumes (default runs/compare)
    python scripts/bench/compare.py --set sample.k=4   other settings for every arm; cells of other settings stay apart
    python scripts/bench/compare.py --tasks everyday-large --arms lmsi --seeds 1 --match 15 --device cuda    one cell
    python scripts/bench/compare.py --write            also docs/results.json, docs/results-tables.md and the plots

A cell is one arm on one task with one seed. Generated tokens are matched through `sample.k`: an arm without an operator
of `ours` samples more answers instead, as many as come nearest to what `ours` spent in its first round; `--match` gives
that number, so that a cell needs no other one and may have a process with a --work folder of its own. Trained tokens
are equal by construction (`arms.budgeted`). Evaluation is not counted. The guard's limits are wide open, so that every
arm is measured after all its rounds; the checks of the default limits are recorded.

The controls are the base with more samples (`base-64`) or at other temperatures (`base-t0.3`). results.py and
findings.py read the cells of any number of folders.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from arms import ARMS, Arm, Cached, configure, merged
from measures import binned, families_of, learnt, off_task, policy_of
from results import table, write_results
from tasks.tasks import TASKS, TOKENS_A_PROMPT, Task

from selfimprove.config import GuardConfig, RunConfig
from selfimprove.config_file import to_yaml
from selfimprove.evaluation.accuracy import Accuracy, audit
from selfimprove.evaluation.answer_key import Key, is_right, load_audit
from selfimprove.evaluation.limits import judge
from selfimprove.models.sources import absolute_name
from selfimprove.outcomes import Decision
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import Run, open_run
from selfimprove.stages.evaluate import evaluate, stored_health
from selfimprove.types import BASE, VOTERS, Stage

OURS = "ours"
CONTROLS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "base-64": ("evaluate.k=64",),
    **{f"base-t{t}": (f"sample.temperature={t}",) for t in (0.1, 0.3, 0.5, 1.0)},
}
"""The arms without training, and their settings: as many samples as training spends, other temperatures."""
WIDE_OPEN = {
    name: 1.0 if any(getattr(bound, "le", None) == 1 for bound in field.metadata) else 1e9
    for name, field in GuardConfig.model_fields.items()
    if name != "trips"
}
"""Guard limits that reject nothing: fractions at 1, all others out of reach."""
OPERATORS = {
    "exemplar": (Stage.RECALL,),
    "revise": (Stage.TRIAL, Stage.CRITIQUE, Stage.REVISE),
    "stitch": (Stage.STITCH,),
}
"""The stages in which each operator of `propose` generates tokens."""

Cell = dict[str, Any]
"""The result of one arm, task and seed: one JSON line."""


class Bench:
    """A folder of cells: finished ones are looked up, the others are run."""

    def __init__(
        self, work: Path, changes: Sequence[str] = (), progress: Progress | None = None, match: int | None = None
    ) -> None:
        """`changes` override the settings of every arm; `match` is the samples a prompt of arms without recall."""
        self.work, self.changes, self.match = work.resolve(), tuple(changes), match
        self.progress = progress or Progress()
        self.lines = self.work / "cells.jsonl"
        self.work.mkdir(parents=True, exist_ok=True)

    def cells(self) -> Iterator[Cell]:
        """Yield the finished cells."""
        if self.lines.is_file():
            yield from map(json.loads, self.lines.read_text(encoding="utf-8").splitlines())

    def cell(self, task: Task, arm: str, seed: int) -> Cell:
        """Return the cell of an arm; without `match`, `ours` is run first, since its tokens are the others' budget."""
        config = self.settings(task, arm, seed)
        name = {"task": task.name, "arm": arm, "seed": seed, "settings": _digest(config, task)}
        found = next((c for c in self.cells() if c.items() >= name.items()), None)
        if found is None:
            self.progress.say(f"\n== {task.name}, {arm}, seed {seed}")
            begun = time.monotonic()
            found = name | {"model": Path(task.model).name.removeprefix("bundled:")} | self._play(task, arm, config)
            found["seconds"] = round(time.monotonic() - begun, 1)
            line = json.dumps(found)
            with self.lines.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            found = json.loads(line)
        return found

    def settings(self, task: Task, arm: str, seed: int) -> RunConfig:
        """Return the settings of a cell; without `match`, the arms whose tokens it matches are run first."""
        config = self._configure(task, ARMS.get(arm, ARMS[OURS]), seed, CONTROLS.get(arm, ()))
        if arm == OURS or arm in CONTROLS:
            return config
        ours = self._configure(task, ARMS[OURS], seed)
        rival = ARMS[arm].matches
        if self.match is not None:
            k = ours.sample.k if config.propose.exemplar.k and rival is None else self.match
        else:
            spent = self.cell(task, OURS, seed)["rounds"]
            k = matched_k(config, ours, spent[1]["tokens"])
            if rival is not None:
                k += more_samples(self.cell(task, rival, seed)["rounds"], spent, k)
        return config.model_copy(update={"sample": config.sample.model_copy(update={"k": k})})

    def _configure(self, task: Task, arm: Arm, seed: int, control: Sequence[str] = ()) -> RunConfig:
        folder = self.work / "prompts" / f"{task.name}-{seed}"
        if not (folder / "audit.jsonl").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            task.write(folder, seed)
        files = {"path": str(folder / "prompts.jsonl"), "audit": str(folder / "audit.jsonl")}
        given = {"seed": seed, "prompts": files, "model": {"path": task.model}, "guard": WIDE_OPEN}
        return configure(arm, merged(task.settings, given), (*self.changes, *control))

    @contextmanager
    def opened(self, task: Task, arm: str, config: RunConfig) -> Iterator[Run]:
        """Open the run of a cell, new or to be resumed."""
        answers = self.work / "answers" / f"{task.name}-{config.seed}"
        answers.mkdir(parents=True, exist_ok=True)
        folder = self.work / "runs" / f"{task.name}-{arm}-{config.seed}-{_digest(config, task)}"
        resume = (folder / "memory.db").is_file()
        with open_run(config, folder=folder, resume=resume, progress=self.progress) as run:
            yield replace(run, engine=Cached(run.engine, run.policy.fingerprint, answers))

    def _play(self, task: Task, arm: str, config: RunConfig) -> Cell:
        """Run the cell, or resume it."""
        assert config.prompts.audit is not None
        keys = load_audit(config.prompts.audit)
        with self.opened(task, arm, config) as run:
            if arm in CONTROLS:
                evaluate(run, 0, BASE)
            else:
                improve(run, ARMS[arm].method(task.trained_tokens))
            measured = audit(run)
            # A round without examples leaves the policy, and so its accuracy, unchanged.
            last = [max(m for m in measured if m <= r) for r in range(1 + (0 if arm in CONTROLS else config.rounds))]
            cell = {
                "k": config.sample.k,
                "dtype": str(run.policy.dtype).removeprefix("torch."),
                "rounds": [_round(run, r, last, measured[last[r]], keys) for r in range(len(last))],
                "heldout": _heldout(Path(config.prompts.audit), [measured[r] for r in last]),
            }
            if task.beside and arm not in CONTROLS:
                policies = [policy_of(r) for r in last]
                cell |= {"learnt": learnt(run, policies, keys), "off_task": off_task(run, policies)}
            return cell


def _heldout(audit_file: Path, measured: Sequence[Accuracy]) -> Cell:
    """Return the held-out prompts, their families if they have any, and their accuracy by round: lists (rounds, P)."""
    families = families_of(audit_file)
    ids = measured[0].prompt_ids
    return {
        "ids": ids,
        "mean": [accuracy.mean.round(4).tolist() for accuracy in measured],
        "greedy": [accuracy.greedy.astype(int).tolist() for accuracy in measured],
        "maj": [accuracy.majority.round(4).tolist() for accuracy in measured],
    } | ({"families": [families[id_] for id_ in ids]} if families else {})


def matched_k(config: RunConfig, ours: RunConfig, spent: Mapping[str, int]) -> int:
    """Return the samples a prompt with which this arm generates about as many tokens as `ours` did.

    `spent` is the tokens that `ours` generated in its first round, by stage; an operator's cost is proportional to its
    `k`.
    """
    saved = 0.0
    for name, stages in OPERATORS.items():
        often, less_often = getattr(ours.propose, name).k, getattr(config.propose, name).k
        if often:
            saved += sum(spent[stage] for stage in stages) * (1 - less_often / often)
    return max(1, ours.sample.k + round(saved / (spent[Stage.SAMPLE] / ours.sample.k)))


def more_samples(rounds: Sequence[Cell], ours: Sequence[Cell], k: int) -> int:
    """Return how many more samples a prompt cost as many tokens as an arm spent above `ours` over all its rounds."""
    spent = rounds[-1]["generated_tokens"] - ours[-1]["generated_tokens"]
    return max(0, round(spent * k / sum(figures["tokens"][Stage.SAMPLE] for figures in ours[1:])))


def _round(run: Run, round_: int, last: Sequence[int], accuracy: Accuracy, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the figures of one round; generated and trained tokens are cumulative.

    `last` gives, by round, the latest round whose policy was measured.
    """
    health = [stored_health(run, r) for r in last[: round_ + 1]]
    verdict = judge(health[:-1], health[-1], GuardConfig(), 0) if round_ else None
    tokens = [_tokens(run, r) for r in range(1, round_ + 1)]
    trained = [run.memory.result(r, Stage.TRAIN) or {} for r in range(1, round_ + 1)]
    return {
        "round": round_,
        **accuracy.means(),
        "generated_tokens": sum(sum(stages.values()) for stages in tokens),
        "trained_tokens": sum(report.get("trained_tokens", 0) for report in trained),
        "examples": trained[-1].get("examples", 0) if trained else 0,
        "agreement": health[-1].agreement,
        "parse_rate": health[-1].parse_rate,
        "kl": health[-1].kl,
        "label_accuracy": _label_accuracy(run, round_, keys),
        "guard": verdict and ("keep" if verdict.decision is Decision.KEEP else verdict.because),
        "checks": {c.name: (c.value, c.limit, c.passed) for c in verdict.checks} if verdict else {},
        "tokens": tokens[-1] if tokens else {},
        "operators": _operators(run, round_, keys),
        "votes": binned(_votes(run, round_, keys)),
    }


def _tokens(run: Run, round_: int) -> dict[str, int]:
    """Return the new tokens by stage, without those of answers to held-out prompts."""
    spent: dict[str, int] = {}
    for stage in (Stage.SAMPLE, *(stage for stages in OPERATORS.values() for stage in stages)):
        spent[stage] = sum(r.new_tokens for r in run.memory.responses(rounds=[round_], stages=[stage]))
    return spent


def _operators(run: Run, round_: int, keys: Mapping[str, Key]) -> dict[str, dict[str, int]]:
    """Return, by origin of the round's candidates, how many were written, right, kept, and kept and right."""
    kept = {id_ for id_, verdict in run.memory.verdicts(round_).items() if verdict.kept}
    ledgers: dict[str, dict[str, int]] = {}
    for r in run.memory.responses(rounds=[round_], origins=VOTERS) if round_ else ():
        ledger = ledgers.setdefault(r.origin, {"written": 0, "right": 0, "kept": 0, "kept_right": 0})
        right = is_right(r.text, keys[r.prompt_id])
        ledger["written"] += 1
        ledger["right"] += right
        ledger["kept"] += r.id in kept
        ledger["kept_right"] += right and r.id in kept
    return ledgers


def _label_accuracy(run: Run, round_: int, keys: Mapping[str, Key]) -> float | None:
    """Return the accuracy of the round's survivors, those from earlier rounds among them; None without any."""
    kept = [id_ for id_, verdict in run.memory.verdicts(round_).items() if verdict.kept]
    right = [is_right(r.text, keys[r.prompt_id]) for r in run.memory.responses(ids=kept)]
    return sum(right) / len(right) if right else None


def _votes(run: Run, round_: int, keys: Mapping[str, Key]) -> list[tuple[float, float]]:
    """Return, for each train prompt with a winner, its support and the accuracy of the winner's responses."""
    if not round_:
        return []
    judged = run.memory.judgements(round_, 2)
    found: dict[str, list[bool]] = {}
    tallies = run.memory.tallies(round_, 2)
    for r in run.memory.responses(ids=list(judged)):
        if judged[r.id].answer is not None and judged[r.id].answer == tallies[r.prompt_id].answer:
            found.setdefault(r.prompt_id, []).append(is_right(r.text, keys[r.prompt_id]))
    return [(tallies[id_].support, sum(right) / len(right)) for id_, right in found.items()]


def _digest(config: RunConfig, task: Task) -> str:
    text = to_yaml(config.model_copy(update={"name": "cell"})) + str(task.trained_tokens)
    return blake2b(text.encode(), digest_size=4).hexdigest()


def _as_asked(task: Task, options: argparse.Namespace) -> Task:
    """Return the task with the model and the numbers of prompts of the command line."""
    if options.model:
        task = replace(task, model=absolute_name(options.model))
    if not (options.train and options.heldout):
        return task
    if task.sized is None:
        raise SystemExit(f"{task.name} has one size; --train and --heldout are for everyday-large")
    name = f"{task.name}-{options.train}-{options.heldout}"
    write, tokens = task.sized(options.train, options.heldout), TOKENS_A_PROMPT * options.train
    return replace(task, name=name, write=write, trained_tokens=tokens)


def main() -> None:
    """Run what is asked for, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default="base,ssd,lmsi,ours,oracle,random-vote", help="names, joined by commas")
    parser.add_argument("--tasks", default="everyday,arith", help="names, joined by commas")
    parser.add_argument("--seeds", default="0,1,2", help="numbers, joined by commas")
    parser.add_argument("--work", type=Path, default=Path("runs/compare"), help="folder for cells and runs")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--train", type=int, help="prompts to learn from a seed, where the task has more")
    parser.add_argument("--heldout", type=int, help="held-out prompts a seed; with --train")
    parser.add_argument("--model", help="another base model: HF id, folder or GGUF file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--match", type=int, metavar="K", help="samples a prompt of arms without recall")
    parser.add_argument("--write", action="store_true", help="write results.json, results-tables.md and plots")
    parser.add_argument("--quiet", action="store_true", help="print the table alone")
    options = parser.parse_args()
    changes = (f"model.device={options.device}", *options.changes)
    bench = Bench(options.work, changes, Progress(quiet=options.quiet), options.match)
    tasks = [_as_asked(TASKS[name], options) for name in options.tasks.split(",")]
    cells = [
        bench.cell(task, arm, int(seed))
        for seed in options.seeds.split(",")
        for task in tasks
        for arm in options.arms.split(",")
    ]
    print(table(cells))
    if options.write:
        write_results(cells)


if __name__ == "__main__":
    main()
