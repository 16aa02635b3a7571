#!/usr/bin/env python3
"""Self-training that collapses in several scenarios: whether the guard rejects rounds before accuracy falls.

    python scripts/bench/guard.py --json             all scenarios, seeds 3 to 5: the figures of docs/guard.md
    python scripts/bench/guard.py --work DIR         folder of finished runs; running again resumes
    python scripts/bench/guard.py --write            put the table into docs/guard.md

Each scenario is run on a tiny model with a guard that records its verdicts but keeps every round, to see where it would
have rejected and where accuracy falls; where it would have rejected, again with the guard in force. The guard sees no
answers; this script alone does.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from measures import families_of
from results import insert
from tasks import tiny_families
from tasks.tiny_world import teach_numbers, write_numbers

from selfimprove.config import GuardConfig, RunConfig
from selfimprove.config_file import parse_config
from selfimprove.engines.engine import OnTokens, TrainingJob
from selfimprove.engines.local import LocalEngine
from selfimprove.evaluation.accuracy import Accuracy, audit
from selfimprove.evaluation.limits import judge, score
from selfimprove.evaluation.metrics import Health
from selfimprove.outcomes import Decision, GuardVerdict, Selection
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import Run, open_run
from selfimprove.stages.evaluate import stored_health
from selfimprove.stages.guard import Judge
from selfimprove.stages.method import Method
from selfimprove.stages.train import imitate
from selfimprove.types import BASE, Example, Generation, Stage, Unit

ROUNDS = 4
SEEDS = (3, 4, 5)
"""Test seeds; the limits were set on seeds 0 and 1."""
FALL = 0.05
"""Accuracy falls when it is this far below the best so far."""
FAMILY_FALL = 0.25
"""The same for one family, which has some dozen prompts."""
NO_CAPS = {"answer_share": 1.0, "ancestor_share": 1.0, "near_duplicate": 1.0}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "guard.md"


@dataclass(frozen=True)
class World:
    """Prompts with answers, and a model that partly knows these: functions of a folder, and of a folder and a seed."""

    name: str
    write: Callable[[Path], tuple[Path, Path]]
    teach: Callable[[Path, int], Path]


NUMBERS = World("numbers", write_numbers, teach_numbers)
FAMILIES = World("families", tiny_families.write_families, tiny_families.teach_families)


@dataclass(frozen=True)
class Scenario:
    """Settings of a run, a fault in its generated answers, and a change of its training examples."""

    name: str
    healthy: bool
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: Callable[[Unit, list[Generation]], list[Generation]] = lambda unit, answers: answers
    examples: Callable[[list[Example], Random], list[Example]] = lambda examples, rng: examples
    world: World = NUMBERS

    def method(self, judge: Judge = judge) -> Method:
        """Return the package's method with this scenario's examples."""

        def job(run: Run, round_: int, selection: Selection) -> TrainingJob:
            made = imitate(run, round_, selection)
            return replace(made, examples=tuple(self.examples(list(made.examples), Random(made.seed))))

        return Method(examples=job, judge=judge)


class Disturbed(LocalEngine):
    """A local engine with a fault: answers to train prompts are changed."""

    def __init__(self, engine: LocalEngine, fault: Callable[[Unit, list[Generation]], list[Generation]]) -> None:
        """Take the place of `engine`."""
        super().__init__(engine.policy, engine.adapter_of, engine.batch_size)
        self.fault = fault

    def answer(self, unit: Unit, on_tokens: OnTokens | None = None) -> list[Generation]:
        """Generate, then change the answers to train prompts."""
        answers = super().answer(unit, on_tokens)
        return answers if unit.stage in (Stage.PROBE, Stage.GREEDY) else self.fault(unit, answers)


def planted(unit: Unit, answers: list[Generation]) -> list[Generation]:
    """Replace two of three answers by a constant."""
    return [replace(a, text="7 is next.") if r.seed % 3 else a for r, a in zip(unit.requests, answers, strict=True)]


def echoed(unit: Unit, answers: list[Generation]) -> list[Generation]:
    """Copy the demonstration."""
    if unit.stage is not Stage.RECALL:
        return answers
    return [replace(a, text=r.messages[-2].content) for r, a in zip(unit.requests, answers, strict=True)]


def lengthened(examples: list[Example], _: Random) -> list[Example]:
    """Make each completion longer than it was."""
    return [replace(e, completion="well, " * 5 + e.completion) for e in examples]


def shuffled(examples: list[Example], rng: Random) -> list[Example]:
    """Exchange completions between prompts: random survivors."""
    texts = [e.completion for e in examples]
    rng.shuffle(texts)
    return [replace(e, completion=text) for e, text in zip(examples, texts, strict=True)]


HARD = {"epochs": 3, "start": "current"}
"""Settings with which a fault of the examples accumulates over the rounds."""

SCENARIOS = (
    Scenario("defaults", True),
    Scenario("half the learning rate", True, {"train": {"lr": 1e-3}}),
    Scenario("from the current policy", True, {"train": {"start": "current", "lr": 1e-3}}),
    Scenario("samples alone", True, {"propose": {"exemplar": {"k": 0}}}),
    Scenario(
        "revise and stitch",
        True,
        {
            "propose": {
                "exemplar": {"k": 0},
                "revise": {"k": 1, "critique_tokens": 8, "shots": 1, "trial": 0},
                "stitch": {"k": 1, "steps": 1},
            }
        },
    ),
    Scenario("the base's votes", True, {"vote": {"labels": "base"}}),
    Scenario("threshold 0.7", True, {"select": {"threshold": 0.7}}),
    Scenario(
        "threshold 0, many epochs",
        False,
        {"select": {"threshold": 0.0, **NO_CAPS}, "train": {"epochs": 12, "lr": 2e-2, "beta": 0.0, "start": "current"}},
    ),
    Scenario("planted constant", False, {"select": NO_CAPS, "train": HARD}, answers=planted),
    Scenario("high learning rate", False, {"train": {"lr": 0.03}}),
    Scenario(
        "echo of one ancestor",
        False,
        {
            "select": NO_CAPS,
            "propose": {"exemplar": {"k": 12, "shots": 1, "pool": 1, "below": 2.0, "agree": 0.0}},
            "train": HARD,
        },
        answers=echoed,
    ),
    Scenario("length blow-up", False, {"select": {"length_factor": 1e3}, "train": HARD}, examples=lengthened),
    Scenario("random survivors", False, {"train": HARD}, examples=shuffled),
    Scenario("four families", True, world=FAMILIES),
    Scenario(
        "four families, from the current policy", True, {"train": {"start": "current", "lr": 1e-3}}, world=FAMILIES
    ),
    Scenario(
        "one family of four, planted constant",
        False,
        {"select": NO_CAPS, "train": HARD},
        answers=tiny_families.planted,
        world=FAMILIES,
    ),
    Scenario(
        "one family of four, its commonest answer",
        False,
        {"train": HARD},
        examples=tiny_families.biased,
        world=FAMILIES,
    ),
    Scenario(
        "one family of four, exchanged answers",
        False,
        {"train": HARD | {"epochs": 8}},
        examples=tiny_families.exchanged,
        world=FAMILIES,
    ),
)


def watch(*args: Any) -> GuardVerdict:
    """Judge as the guard does, but keep every round."""
    return replace(judge(*args), decision=Decision.KEEP)


def configure(scenario: Scenario, model: Path, prompts: Path, answers: Path, seed: int) -> RunConfig:
    """Return the settings of one run."""
    raw: dict[str, Any] = {
        "seed": seed,
        "rounds": ROUNDS,
        "prompts": {"path": str(prompts), "audit": str(answers), "heldout": 0.5},
        "model": {"path": str(model), "device": "cpu", "dtype": "float32", "threads": 1},
        "embedder": "hash:32",
        "sample": {"k": 4, "max_new_tokens": 32, "temperature": 1.0},
        "vote": {"kind": "number"},
        "propose": {"exemplar": {"k": 2}},  # not 8: this model answers noise in conversations
        "select": {"near_duplicate": 1.0},
        "train": {"rank": 8, "lr": 2e-3, "epochs": 2},
        "evaluate": {"k": 8},
        "guard": {"base_truncation": 1.0},
    }
    for section, values in scenario.settings.items():
        raw[section] = raw.get(section, {}) | values
    return parse_config(raw)


def play(scenario: Scenario, config: RunConfig, folder: Path, method: Method) -> dict[str, Any]:
    """Run a scenario and return accuracy, score and metrics by round (0: the base), and the rejected rounds."""
    with open_run(config, folder=folder, resume=folder.is_dir(), progress=Progress(quiet=True)) as run:
        assert isinstance(run.engine, LocalEngine)
        improve(replace(run, engine=Disturbed(run.engine, scenario.answers)), method)
        measured = audit(run)
        accuracy = {round_: float(a.mean.mean()) for round_, a in measured.items()}
        health = {round_: stored_health(run, round_) for round_ in accuracy}
        refused = [r.round for r in run.memory.rounds() if r.decision is not Decision.KEEP]
        current = 0 if run.memory.current == BASE else int(run.memory.current.removeprefix("r"))
        return {
            "accuracy": list(accuracy.values()),
            "families": by_family(list(measured.values()), families_of(Path(config.prompts.audit or ""))),
            "score": [score(health[0], h) for h in health.values()],
            "trips": refused,
            "because": [r.because for r in run.memory.rounds() if r.decision is not Decision.KEEP],
            "current": accuracy[current],
            "kept": [0, *(r.round for r in run.memory.rounds() if r.decision is Decision.KEEP)],
            "would_trip": first_trip(list(health.values()), refused),
            "health": [asdict(h) for h in health.values()],
        }


def first_trip(health: Sequence[Health], refused: Sequence[int]) -> int | None:
    """Return the first round that the default limits reject, or that has no survivors, with all earlier ones kept."""
    for round_ in range(1, len(health)):
        verdict = judge(health[:round_], health[round_], GuardConfig(), 0)
        if verdict.decision is not Decision.KEEP:
            return round_
    return min(refused, default=None)


def by_family(measured: Sequence[Accuracy], families: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the mean@k of each family by round; `families` gives the family of each prompt id, if it has one."""
    found: dict[str, list[float]] = {}
    for family in dict.fromkeys(families.values()):
        own = [families.get(id_) == family for id_ in measured[0].prompt_ids]
        found[family] = [float(accuracy.mean[own].mean()) for accuracy in measured]
    return found


def first_fall(accuracy: Sequence[float], fall: float = FALL) -> int | None:
    """Return the first round whose accuracy is `fall` below the best before it."""
    return next((r for r in range(1, len(accuracy)) if accuracy[r] <= max(accuracy[:r]) - fall), None)


def falls_in(played: Mapping[str, Any]) -> int | None:
    """Return the first round in which the accuracy falls, over all prompts or within a family."""
    curves = played.get("families", {}).values()
    falls = [first_fall(played["accuracy"]), *(first_fall(curve, FAMILY_FALL) for curve in curves)]
    return min((fall for fall in falls if fall is not None), default=None)


def measure(scenario: Scenario, seed: int, work: Path) -> dict[str, Any]:
    """Run one scenario and seed, or return its figures from `work` where it is finished."""
    done = work / f"{scenario.name.replace(' ', '-')}-{seed}.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found
    world = work / scenario.world.name
    world.mkdir(parents=True, exist_ok=True)
    prompts, answers = scenario.world.write(world)
    model = world / f"model-{seed}"
    if not (model / "config.json").is_file():
        scenario.world.teach(model, seed)
    begun = time.monotonic()
    config = configure(scenario, model, prompts, answers, seed)
    watched = play(scenario, config, done.with_suffix(".watched"), scenario.method(watch))
    guarded = watched
    if watched["would_trip"] is not None:
        guarded = play(scenario, config, done.with_suffix(".guarded"), scenario.method())
    seconds = time.monotonic() - begun
    found = {
        "scenario": scenario.name,
        "healthy": scenario.healthy,
        "seed": seed,
        "watched": watched,
        "guarded": guarded,
        "s": seconds,
    }
    done.write_text(json.dumps(found), encoding="utf-8")
    return found


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers that the guard is judged by."""
    never = ROUNDS + 1
    falls = [falls_in(r["watched"]) or never for r in runs]
    trips = [r["watched"]["would_trip"] or never for r in runs]
    rounds = list(zip((r["healthy"] for r in runs), falls, trips, strict=True))
    fallen = [(fall, trip) for healthy, fall, trip in rounds if not healthy and fall < never]
    seen = [fall for fall, trip in fallen if trip <= fall]
    healthy = [(fall, trip) for healthy, fall, trip in rounds if healthy]
    alarmed = [fall for fall, trip in healthy if trip < fall]
    near = [r for r in runs if near_best(r["guarded"], r["guarded"]["current"])]
    near_with_last = [r for r in runs if near_best(r["guarded"], r["guarded"]["accuracy"][r["guarded"]["kept"][-1]])]
    pairs = [pair for r in runs for pair in zip(r["watched"]["score"], r["watched"]["accuracy"], strict=True)]
    return {
        "recall": len(seen) / len(fallen) if fallen else None,
        "false_alarms": len(alarmed) / len(healthy) if healthy else None,
        "within_1_point": len(near) / len(runs),
        "correlation": float(np.corrcoef(np.array(pairs).T)[0, 1]),
        "runs": len(runs),
        "fallen": len(fallen),
        "fallen_later": sum(fall > 1 for fall, _ in fallen),
        "last_kept_within_1_point": len(near_with_last) / len(runs),
    }


def near_best(played: dict[str, Any], accuracy: float) -> bool:
    """Whether an accuracy is within 1 point of the best measured round's."""
    return bool(accuracy >= max(played["accuracy"]) - 0.01 - 1e-9)


def table(runs: Sequence[dict[str, Any]], numbers: dict[str, Any]) -> str:
    """Return the runs as Markdown: one row a scenario and seed."""
    lines = [
        f"{numbers['runs']} runs: recall {shown(numbers['recall'])} of {numbers['fallen']} that fell, "
        f"{numbers['fallen_later']} of them later than round 1; false alarms {shown(numbers['false_alarms'])}; within "
        f"1 point of the best round {shown(numbers['within_1_point'])} (were `current` the last kept round: "
        f"{shown(numbers['last_kept_within_1_point'])}); correlation of the score with accuracy "
        f"{shown(numbers['correlation'])}.",
        "",
        "| scenario | healthy | seed | accuracy, guard recording | falls in | rejected in | because "
        "| left as `current` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in runs:
        accuracy = " ".join(f"{value:.2f}" for value in r["watched"]["accuracy"])
        because = r["guarded"]["because"][0].split(",")[0] if r["guarded"]["because"] else ""
        fall, trip = falls_in(r["watched"]) or "never", r["watched"]["would_trip"] or "never"
        left, kind = f"{r['guarded']['current']:.2f}", "yes" if r["healthy"] else "no"
        lines.append(f"| {r['scenario']} | {kind} | {r['seed']} | {accuracy} | {fall} | {trip} | {because} | {left} |")
    return "\n".join(lines)


def shown(value: float | None) -> str:
    """Return a figure as text."""
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--scenarios", nargs="+", default=[s.name for s in SCENARIOS], help="names of scenarios")
    parser.add_argument("--work", type=Path, help="folder of finished runs; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON line")
    parser.add_argument("--write", action="store_true", help="put the table into docs/guard.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        chosen = [scenario for scenario in SCENARIOS if scenario.name in options.scenarios]
        runs = [measure(scenario, seed, work) for seed in options.seeds for scenario in chosen]
    numbers = figures(runs)
    if options.write:
        page = insert(PAGE.read_text(encoding="utf-8"), "runs", table(runs, numbers))
        PAGE.write_text(page, encoding="utf-8")
    print(json.dumps(numbers) if options.json else table(runs, numbers))


if __name__ == "__main__":
    main()
