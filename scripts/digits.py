#!/usr/bin/env python3
"""See how long the additions are that a tiny transformer teaches itself when it was taught short ones.

    python scripts/digits.py --work DIR                   teach the base, run every arm; running again goes on
    python scripts/digits.py --arms lmsi --seed 1 --json  one arm, figures as JSON
    python scripts/digits.py --write                      put the table into docs/results.md

After Lee et al. 2025 (arXiv 2502.01612). scripts/sums.py trains the base from scratch on sums of up to `TAUGHT`
digits; the loop then gets longer ones and no answers: in its first round sums of up to `TAUGHT` + 1 digits, in every
round one digit more, whatever the arm. A round trains on what it agrees on, and that carries the next length.
"""

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import torch
from arms import ARMS, Arm, Vote, configure, equip, merged
from quiz import Question, write_questions
from results import insert
from sums import digits_of, length, questions, read, solve, spell, teach, write

from selfimprove.audit import Key, load_audit
from selfimprove.consistency.vote import Ballot
from selfimprove.consistency.vote import vote as count_votes
from selfimprove.evaluate import audit
from selfimprove.fsio import make_folder, write_json, write_text
from selfimprove.memory import ResponseMemory
from selfimprove.progress import Progress
from selfimprove.prompts import make_prompt
from selfimprove.rounds import improve
from selfimprove.run import Run, open_run
from selfimprove.seeds import seed_for
from selfimprove.types import VOTERS, Example, Message, Origin, Prompt, Request, Response, Sampling, Split, Stage, Unit
from selfimprove.verdicts import Judgement, Tally

TAUGHT = 4
"""Digits of the longest sums that the base is taught."""
REACH = 10
"""Digits of the longest sums that the loop is given, and that the figures are measured on."""
SUMS = 60
"""Sums of each length that the loop is given, the held-out ones among them."""
WRITINGS = 4
"""Times that it is given each sum that is not held out, every time written otherwise."""
COPIES = 6
"""Times that the `rewrite` arm writes each survivor anew."""
TRAINED_TOKENS = 80_000
"""Completion tokens that every arm trains on in a round, about, all epochs counted."""
FRESH = 200
"""Sums of each length, seen by nobody, that the figures are measured on."""
HELDOUT = 0.2
ROUNDS = 8
WHOLE = 0.05
"""Share of the answers to questions of one length that are as long as a whole one, at least."""
GOOD = 0.95
WORK = Path("runs") / "digits"
BASE = WORK / "base-0"
"""Where what is finished is kept, the taught base of seed 0 among it."""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"

SETTINGS: dict[str, Any] = {
    "rounds": ROUNDS,
    "model": {"device": "cpu", "dtype": "float32", "threads": 1},
    "embedder": "hash:64",  # sums have no meaning to embed
    "prompts": {"heldout": HELDOUT},
    "sample": {"k": 4, "temperature": 1.0, "top_k": 0, "max_new_tokens": 2 * REACH + 4, "unit_prompts": 512},
    "propose": {"exemplar": {"k": 0}, "stitch": {"k": 1}},  # the model knows one sum at a time, and no language
    "vote": {"kind": "short"},
    "select": {"threshold": 0.7, "per_prompt": 1, "near_duplicate": 1.0},
    "train": {"rank": 32, "alpha": 64, "lr": 2e-3, "batch_tokens": 1024, "beta": 0.0, "start": "current"},
    "evaluate": {"k": 4},
    "guard": {
        # Most held-out sums are longer than a round's: what is said of them is noise at first, and has to change.
        "agreement_drop": 1.0,
        "base_majority_drop": 1.0,
        "base_share_drop": 1.0,
        "kl": 1e9,
        "human_nll_rise": 1e9,
    },
}


def prompts(seed: int) -> Iterator[str]:
    """Yield the sums that the loop is given, all lengths, no answers: no sum is on both sides of the split."""
    for question in questions(range(TAUGHT - 1, REACH + 1), SUMS, "prompts", seed):
        yield question
        if split(question) is Split.TRAIN:
            rng = Random(seed_for("digits", "writings", question))
            ways = (write(read(question), rng) for _ in itertools.count())
            yield from itertools.islice((way for way in ways if split(way) is Split.TRAIN), WRITINGS - 1)


def split(question: str) -> Split:
    """Return the side that the hash of a prompt puts it on."""
    return make_prompt((Message("user", question),), HELDOUT).split


class Growing:
    """A memory that holds back the sums to learn from that are too long for the round; all else is the memory's own."""

    def __init__(self, memory: ResponseMemory) -> None:
        """Stand before `memory`."""
        self.memory = memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    def prompts(self, split: Split | None = None) -> list[Prompt]:
        """Return all that are held out, and of the others those of up to `TAUGHT` digits and one more a round."""
        longest = TAUGHT + 1 + len(self.memory.rounds())
        return [p for p in self.memory.prompts(split) if p.split is Split.HELDOUT or length(p.text) <= longest]


class Pooling(Growing):
    """The same, and votes are counted over all the ways in which a sum is written.

    What a model this small gets wrong in one writing all its samples get wrong; in another writing it errs elsewhere.
    """

    def commit_vote(
        self, round_: int, judgements: Sequence[Judgement], tallies: Sequence[Tally], *, index: int, wall_s: float
    ) -> None:
        """Commit the vote on each sum as the vote on each of its writings; an answer is its digits alone."""
        sums = {p.id: str(read(p.text)) for p in self.memory.prompts(Split.TRAIN)}
        asked = {r.id: r.prompt_id for r in self.memory.responses(ids=[j.response_id for j in judgements])}
        ballots: dict[str, list[Ballot]] = {}
        for j in judgements:
            answer = digits_of(j.answer) if j.answer else None
            ballots.setdefault(sums[asked[j.response_id]], []).append(Ballot(j.response_id, answer, False, j.weight))
        counted = {key: count_votes(key, cast, derived_cap=1.0) for key, cast in ballots.items()}
        pooled = [replace(counted[sums[t.prompt_id]][0], prompt_id=t.prompt_id) for t in tallies]
        judged = [judgement for _, found in counted.values() for judgement in found]
        self.memory.commit_vote(round_, judged, pooled, index=index, wall_s=wall_s)


def rewritten(examples: list[Example]) -> list[Example]:
    """Write every survivor anew, in other orders and letters: what is so in one writing is so in all."""
    made = []
    for e in examples:
        rng = Random(seed_for("digits", "rewritten", e.response_id))
        for _ in range(COPIES):
            question = write(read(e.messages[0].content), rng)
            answer = spell(digits_of(e.completion), question)
            made.append(replace(e, messages=(Message("user", question),), completion=answer))
    return made


def whole(vote: Vote, responses: Mapping[int, Response], keys: Mapping[str, Key], rng: Random) -> Vote:
    """Majority vote among whole answers: shorter ones than others to questions of that length abstain (Lee et al.).

    A small model ends a long sum where the sums that it was taught would end, and its samples agree on that.
    """
    lengths: dict[int, list[int]] = {}
    for response in responses.values():
        lengths.setdefault(response.prompt_tokens, []).append(len(response.text))
    least = {asked: sorted(found)[-math.ceil(WHOLE * len(found))] for asked, found in lengths.items()}
    ballots: dict[str, list[Ballot]] = {}
    for judgement in vote[1]:
        response = responses[judgement.response_id]
        answer = judgement.answer if len(response.text) >= least[response.prompt_tokens] else None
        ballots.setdefault(response.prompt_id, []).append(Ballot(response.id, answer, response.origin.derived))
    counted = [count_votes(id_, cast, derived_cap=1.0) for id_, cast in ballots.items()]
    return [tally for tally, _ in counted], [judgement for _, judged in counted for judgement in judged]


WAYS: dict[str, tuple[Arm, type[Growing]]] = {
    "ssd": (ARMS["ssd"], Growing),
    "lmsi": (ARMS["lmsi"], Growing),
    "length": (Arm("length", "lmsi", vote=whole), Growing),
    "ours": (ARMS["ours"], Growing),
    "rewrite": (Arm("rewrite", "lmsi", examples=rewritten), Pooling),
    "oracle": (ARMS["oracle"], Growing),
}
"""The length filter and the rewriting are the bench's; the loop, which does not know what a sum is, has neither."""


def cell_name(arm: str, seed: int, changes: Sequence[str] = ()) -> str:
    """Return what a cell's files are called; settings changed by hand make it another cell."""
    mark = blake2b(json.dumps(changes).encode(), digest_size=4).hexdigest()
    return f"{arm}-{seed}-{mark}" if changes else f"{arm}-{seed}"


def play(
    way: tuple[Arm, type[Growing]], model: Path, work: Path, seed: int, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Improve the model in this way and return its accuracy by length: of every round, and on fresh sums.

    `rows` holds the figures of every round as docs/results.json has them.
    """
    arm, growing = way
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
        memory: Any = growing(opened.memory)
        run = equip(replace(opened, memory=memory), arm, load_audit(audit_file), answers, TRAINED_TOKENS)
        improve(run)
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
            "arm": arm,
            "seed": run.config.seed,
            "round": round_,
            "greedy": float(found.greedy.mean()),
            "mean_at_k": float(found.mean.mean()),
            "maj_at_k": float(found.majority.mean()),
            "pass_at_k": float(found.any.mean()),
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
    """Return greedy accuracy on sums of each length that nobody has seen."""
    asked = list(questions(range(1, REACH + 1), FRESH, "fresh"))
    requests = tuple(Request(q, Origin.GREEDY, (Message("user", q),), seed=0) for q in asked)
    how = Sampling(0.0, 0, 1.0, run.config.sample.max_new_tokens)
    unit = Unit(0, Stage.GREEDY, 0, requests, how, policy)
    answers = [generation.text for _, made in run.engine.generate([unit]) for generation in made]
    return _shares([(length(q), text == solve(q)) for q, text in zip(asked, answers, strict=True)])


def _shares(answered: Sequence[tuple[int, bool]]) -> dict[int, float]:
    """Return the share that is right, by number of digits."""
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
    """Teach the base, run the arms, and show what they reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for what is finished")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--write", action="store_true", help="put the table into docs/results.md")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for matrices this small, more threads only wait for each other
    options.work.mkdir(parents=True, exist_ok=True)
    model = options.work / f"base-{options.seed}"
    if not model.is_dir():
        teach(model, options.seed, TAUGHT)
    cells = []
    for name in options.arms:
        done = options.work / f"{cell_name(name, options.seed, options.changes)}.json"
        if not done.is_file():
            write_json(done, play(WAYS[name], model, options.work, options.seed, options.changes))
        cells.append(_read(done))
    if options.write:
        write_text(PAGE, insert(PAGE.read_text(encoding="utf-8"), "digits", table(cells)))
    print(json.dumps(cells) if options.json else table(cells))


def _read(done: Path) -> dict[str, Any]:
    """Return a finished arm's figures; JSON has made texts of the lengths."""
    cell = json.loads(done.read_text(encoding="utf-8"))
    for key in ("before", "after"):
        cell[key] = {int(digits): share for digits, share in cell[key].items()}
    return cell


if __name__ == "__main__":
    main()
