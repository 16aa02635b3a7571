#!/usr/bin/env python3
"""Worth of revision: accuracy of direct and of revised answers, and of the verdicts, by policy.

    python scripts/bench/revision.py --tasks everyday,arith --seeds 0,1,2
    python scripts/bench/revision.py --work DIR --set sample.k=4     folder and settings as of compare.py

The policies are the base, one after an ordinary round (arm `ours`) and one after a round of which half of the trained
tokens are in revise format (`ours-revise-train`, and `ours-verdicts-train` with verdicts), at equal trained tokens. A
revision sees four of the policy's own answers. Open prompts are those whose direct samples differ. Verdicts are
compared with "its share of the samples is at least one half", on the same answers.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from compare import Bench
from results import over_seeds
from tasks.tasks import TASKS, Task

from selfimprove.evaluation.answer_key import Key, is_right, load_audit
from selfimprove.run.progress import Progress
from selfimprove.run.session import Run
from selfimprove.stages.evaluate import answers
from selfimprove.stages.reading import read_answers
from selfimprove.stages.revise import Demonstrations, answers_in, demonstrations_for, plan_revisions, revision_length
from selfimprove.stages.revision import Rivals, read_revision
from selfimprove.types import BASE, Finish, Origin, Prompt, Response, Split, Stage, Unit

REVISIONS = 4
"""Revisions of each held-out prompt."""
POLICIES = {
    "base": ("ours", 0, 0, False),
    "base, 3 demonstrated revisions": ("ours", 0, 3, False),
    "base, the same with verdicts": ("ours", 0, 3, True),
    "after an ordinary round": ("ours", 1, 0, False),
    "the same, 3 demonstrated revisions": ("ours", 1, 3, False),
    "after a round half in revise format": ("ours-revise-train", 1, 0, False),
    "the same with verdicts": ("ours-verdicts-train", 1, 0, True),
}
"""Name -> arm, round that trained the policy, demonstrated revisions in view, whether verdicts are asked for."""


@dataclass(frozen=True)
class Measured:
    """One policy on the held-out prompts of one task and seed, in their order: (P,) each.

    `verdicts` and `shares` are (n,): whether each verdict, and the share of the same answer, judged it rightly.
    """

    direct: np.ndarray
    revised: np.ndarray
    open: np.ndarray
    verdicts: np.ndarray
    shares: np.ndarray
    asked: int
    """Answers that were shown; those without a verdict are not in `verdicts`."""


def measure(run: Run, round_: int, shots: int, verdicts: bool, keys: Mapping[str, Key]) -> Measured:
    """Revise the answers that the policy of a round gave to the held-out prompts."""
    prompts = [p for p in run.prompts(Split.HELDOUT) if p.id in keys]
    groups = answers(run, round_, Stage.PROBE)
    rivals: dict[str, Rivals] = {}
    for prompt in prompts:
        classes = read_answers(run, prompt, groups[prompt.id])
        own = {r.id: c for r, c in zip(groups[prompt.id], classes, strict=True)}
        if votes := Counter(c for c in classes if c is not None):
            readable = tuple(r for r in groups[prompt.id] if own[r.id] is not None)
            rivals[prompt.id] = Rivals(prompt, readable, own, votes.most_common(1)[0][0])
    config = run.config.propose.revise.model_copy(update={"shots": shots, "verdicts": verdicts})
    changed = replace(
        run, config=run.config.model_copy(update={"propose": run.config.propose.model_copy(update={"revise": config})})
    )
    written = revise_all(changed, round_, prompts, rivals, demonstrations_for(changed, 1))
    rows, said_right, shares, asked = [], [], [], 0
    for prompt in prompts:
        key, group = keys[prompt.id], groups[prompt.id]
        direct = float(np.mean([is_right(run.reader.shown(r.text), key) for r in group]))
        own_rivals = rivals.get(prompt.id)
        revisions = [is_right(r.text, key) for r in answers_in(changed, written.get(prompt.id, ()))]
        differ = own_rivals is not None and len({own_rivals.classes[r.id] for r in group}) > 1
        rows.append((direct, float(np.mean(revisions)) if revisions else direct, differ))
        for revision in written.get(prompt.id, ()):
            assert own_rivals is not None
            shown = {r.id: r for r in own_rivals.answers}
            counts: Counter[str | None] = Counter(own_rivals.classes.values())
            if not verdicts:
                continue
            said = read_revision(run.reader.shown(revision.text), config.rivals).verdicts
            for id_, right in zip(revision.parents, said, strict=False):
                if id_ not in shown:
                    continue
                asked += 1
                if right is not None:
                    truth = is_right(run.reader.shown(shown[id_].text), key)
                    said_right.append(right == truth)
                    shares.append((counts[own_rivals.classes[id_]] >= len(group) / 2) == truth)
    direct_P, revised_P, open_P = map(np.array, zip(*rows, strict=True))
    return Measured(direct_P, revised_P, open_P.astype(bool), np.array(said_right), np.array(shares), asked)


def revise_all(
    run: Run, round_: int, prompts: Sequence[Prompt], rivals: Mapping[str, Rivals], shown: Demonstrations
) -> dict[str, list[Response]]:
    """Return `REVISIONS` revisions of each prompt that has readable answers, by prompt id; nothing is stored."""
    config, size = run.config.propose.revise, run.config.sample.unit_prompts
    policy = f"r{round_:04d}" if round_ else BASE
    sampling = run.config.sample.sampling(revision_length(run))
    written: dict[str, list[Response]] = {}
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        key = (run.config.seed, round_, "bench")
        requests = plan_revisions(batch, rivals, shown(batch), config, k=REVISIONS, seed_key=key)
        unit = Unit(round_, Stage.TRIAL, 0, tuple(requests), sampling, policy)
        for _, generations in run.engine.generate([unit]):
            for request, made in zip(requests, generations, strict=True):
                response = Response(
                    *(0, request.prompt_id, round_, Origin.CRITIQUE, unit.id, 0, made.text, Finish(made.finish)),
                    *(request.seed, policy, made.prompt_tokens, made.new_tokens, request.parents),
                )
                written.setdefault(request.prompt_id, []).append(response)
    return written


def table(found: Mapping[str, Mapping[str, Sequence[Measured]]]) -> str:
    """Return Markdown: a row a task and policy, means over the seeds, differences with their 95 % intervals."""
    lines = [
        "| task | policy | direct | revised | difference | open prompts | direct | revised | difference "
        "| verdicts right | share >= 1/2 right | answers judged |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task, policies in found.items():
        for name, seeds in policies.items():
            cells = [task, name, *_accuracies([(m.direct, m.revised) for m in seeds])]
            some = [(m.direct[m.open], m.revised[m.open]) for m in seeds if m.open.any()]
            cells += [str(sum(len(direct) for direct, _ in some)), *_accuracies(some)]
            judged = sum(m.verdicts.size for m in seeds)
            for name_ in ("verdicts", "shares"):
                cells.append(f"{np.concatenate([getattr(m, name_) for m in seeds]).mean():.3f}" if judged else "")
            cells.append(f"{judged} of {sum(m.asked for m in seeds)}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _accuracies(pairs_S: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[str, str, str]:
    if not pairs_S:
        return "", "", ""
    gain = over_seeds([revised - direct for direct, revised in pairs_S])
    direct, revised = (float(np.mean([pair[i].mean() for pair in pairs_S])) for i in (0, 1))
    return f"{direct:.3f}", f"{revised:.3f}", f"{gain.diff:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"


def play(bench: Bench, task: Task, seed: int, arms: Sequence[str]) -> dict[str, Measured]:
    """Run the arms on a task and return what each policy's revisions are worth."""
    found = {}
    for arm in arms:
        bench.cell(task, arm, seed)
        config = bench.settings(task, arm, seed)
        assert config.prompts.audit is not None
        keys = load_audit(config.prompts.audit)
        with bench.opened(task, arm, config) as run:
            for name, (of, round_, shots, verdicts) in POLICIES.items():
                if of == arm:
                    found[name] = measure(run, round_, shots, verdicts, keys)
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="everyday,arith", help="names, joined by commas")
    parser.add_argument("--seeds", default="0,1,2", help="numbers, joined by commas")
    parser.add_argument("--work", type=Path, default=Path("runs/compare"), help="folder for cells and runs")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quiet", action="store_true", help="print the table alone")
    parser.add_argument("--arms", default="ours,ours-revise-train,ours-verdicts-train", help="names, joined by commas")
    options = parser.parse_args()
    bench = Bench(options.work, options.changes, Progress(quiet=options.quiet))
    found: dict[str, dict[str, list[Measured]]] = {}
    for name in options.tasks.split(","):
        for seed in options.seeds.split(","):
            for policy, measured in play(bench, TASKS[name], int(seed), options.arms.split(",")).items():
                found.setdefault(name, {}).setdefault(policy, []).append(measured)
    print(table(found))


if __name__ == "__main__":
    main()
