#!/usr/bin/env python3
"""See how long the additions are that a tiny transformer teaches itself when it was taught short ones.

    python scripts/digits.py --work DIR                   teach the base, run every arm; running again goes on
    python scripts/digits.py --arms lmsi --seed 1 --json  one arm, figures as JSON
    python scripts/digits.py --write                      put the table into docs/results.md

After Lee et al. 2025 (arXiv 2502.01612). The base is trained from scratch on sums of up to `TAUGHT` digits; the loop is
then given sums of up to `REACH` digits and no answers. A round trains on what it agrees on, which is at first what is
a little longer than what the base was taught.

A sum is written as its columns in any order, each with a letter (index hints: Zhou et al. 2023, arXiv 2310.16028), and
the answer from the smallest digit on: 17 + 25 is `12b75aa`, 42 is `2b4c0`. The letters start anywhere in the alphabet.
Columns in order, or a sign between question and answer, would tell a model this small where it is: it then learns the
places of short sums, the carry's above all, and nothing that holds for longer ones.
"""

import argparse
import json
import math
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import torch
from arms import ARMS, Arm, Replaced, Vote, configure, merged
from results import insert
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SmolLM3Config, SmolLM3ForCausalLM

from selfimprove.audit import Key
from selfimprove.consistency.vote import Ballot
from selfimprove.consistency.vote import vote as count_votes
from selfimprove.evaluate import heldout
from selfimprove.fsio import new_folder, write_json, write_text
from selfimprove.progress import Progress
from selfimprove.rounds import improve
from selfimprove.run import Run, open_run
from selfimprove.seeds import seed_for
from selfimprove.types import Message, Origin, Request, Response, Sampling, Stage, Unit

TAUGHT = 5
"""Digits of the longest sums that the base is taught."""
REACH = 10
"""Digits of the longest sums that the loop is given."""
STEPS = 4000
BATCH = 64
LEARNING_RATE = 3e-3
PROMPTS = 200
"""Sums of each length that the loop is given, the held-out ones among them."""
FRESH = 200
"""Sums of each length, seen by nobody, that the figures are measured on."""
WHOLE = 0.05
"""Share of the answers to questions of one length that are as long as a whole one, at least."""
GOOD = 0.95
WORK = Path("runs") / "digits"
BASE = WORK / "base-0"
"""Where what is finished is kept, the taught base of seed 0 among it."""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"

END, PAD = "<end>", "<pad>"
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
)

SETTINGS: dict[str, Any] = {
    "rounds": 8,
    "model": {"device": "cpu", "dtype": "float32", "threads": 1},
    "embedder": "hash:64",  # sums have no meaning to embed
    "prompts": {"heldout": 0.35},
    "sample": {"k": 6, "temperature": 1.0, "top_k": 0, "max_new_tokens": 2 * REACH + 4, "unit_prompts": 512},
    "propose": {"exemplar": {"k": 0}, "stitch": {"k": 1}},  # the model knows one sum at a time, and no language
    "vote": {"kind": "short"},
    "select": {"threshold": 0.6, "per_prompt": 1, "near_duplicate": 1.0},
    "train": {"rank": 32, "alpha": 64, "lr": 1e-3, "epochs": 4, "batch_tokens": 512, "start": "current"},
    "evaluate": {"k": 2},
    "guard": {
        # The base is wrong on most of these prompts, so improving is leaving its majority behind.
        "base_majority_drop": 1.0,
        "base_share_drop": 1.0,
        "kl": 1e9,
        "human_nll_rise": 1e9,
    },
}


# -- sums


def ask(digits: int, rng: Random) -> str:
    """Return a sum of two numbers with so many digits, as the model is asked it."""
    low, high = 10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1
    a, b = (str(rng.randint(low, high))[::-1] for _ in range(2))
    start = rng.randrange(len(string.ascii_lowercase) - digits)
    letters = string.ascii_lowercase[start : start + digits]
    columns = [x + y + letter for x, y, letter in zip(a, b, letters, strict=True)]
    return "".join(rng.sample(columns, digits)) + letters[0]


def solve(question: str) -> str:
    """Return the right answer: the digit of each column and the last carry, with the letters between them."""
    columns = sorted(re.findall(r"(\d)(\d)([a-z])", question), key=lambda column: column[2])
    total = sum((int(x) + int(y)) * 10**place for place, (x, y, _) in enumerate(columns))
    digits = str(total).zfill(len(columns) + 1)[::-1]
    return digits[0] + "".join(
        chr(ord(letter) + 1) + digit for (*_, letter), digit in zip(columns, digits[1:], strict=True)
    )


def length(question: str) -> int:
    """Return the number of digits of each summand."""
    return len(question) // 3


def questions(lengths: Sequence[int], count: int, *key: object) -> Iterator[str]:
    """Yield `count` different sums of each length (fewer of one digit), drawn by key."""
    for digits in lengths:
        rng = Random(seed_for("digits", digits, *key))
        yield from dict.fromkeys(ask(digits, rng) for _ in range(count))


def prompts(seed: int) -> Iterator[str]:
    """Yield the sums that the loop is given: all lengths, no answers."""
    return questions(range(1, REACH + 1), PROMPTS, "prompts", seed)


# -- the base


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    vocabulary = ["<unk>", PAD, END, *string.digits, *string.ascii_lowercase]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token=PAD, eos_token=END)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> SmolLM3ForCausalLM:
    """Llama with positions (RoPE) in its first layer alone: that one looks at neighbours, the next at content."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmolLM3ForCausalLM(
            SmolLM3Config(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=256,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                no_rope_layers=[1, 0],
                max_position_embeddings=512,
                tie_word_embeddings=True,
                initializer_range=0.1,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def teach(folder: Path, seed: int, taught: int = TAUGHT, steps: int = STEPS) -> Path:
    """Train a model from scratch on sums of up to `taught` digits, the short ones first, and save it."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    rng = Random(seed_for("digits", "teach", seed))
    for step in range(steps):
        done = step / steps
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 2.02 - 2 * done)
        longest = min(taught, 1 + int(2 * taught * done))  # all lengths from the middle on
        digits = rng.choices(range(1, longest + 1), weights=range(1, longest + 1))[0]
        asked = [ask(digits, rng) for _ in range(BATCH)]
        rows = [tokenizer(q + solve(q) + END, add_special_tokens=False)["input_ids"] for q in asked]
        tokens = torch.tensor(rows)  # (B, T): all of one length
        start = len(asked[0])
        logits = model(tokens).logits[:, start - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, start:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with new_folder(folder) as temporary:
        model.eval().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder


# -- the arms


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


WAYS = {
    "ssd": ARMS["ssd"],
    "lmsi": ARMS["lmsi"],
    "length": Arm("length", "lmsi", vote=whole),
    "ours": ARMS["ours"],
    "oracle": ARMS["oracle"],
}
"""The length filter is the bench's; the loop has none."""


def cell_name(arm: str, seed: int, changes: Sequence[str] = ()) -> str:
    """Return what a cell's files are called; settings changed by hand make it another cell."""
    mark = blake2b(json.dumps(changes).encode(), digest_size=4).hexdigest()
    return f"{arm}-{seed}-{mark}" if changes else f"{arm}-{seed}"


def play(arm: Arm, model: Path, work: Path, seed: int, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Improve the model in this way and return its accuracy by length, after every round and at the end."""
    file = work / f"prompts-{seed}.jsonl"
    write_text(file, "".join(json.dumps({"prompt": text}) + "\n" for text in prompts(seed)))
    given = {"seed": seed, "prompts": {"path": str(file)}, "model": {"path": str(model)}}
    config = configure(arm, merged(SETTINGS, given), changes)
    folder = work / cell_name(arm.name, seed, changes)
    resume = (folder / "memory.db").is_file()
    with open_run(config, folder=folder, resume=resume, progress=Progress()) as run:
        if arm.vote is not None:
            keys = {p.id: Key(frozenset([solve(p.text)])) for p in run.memory.prompts()}
            memory: Any = Replaced(run.memory, arm, keys, seed)
            run = replace(run, memory=memory)
        improve(run)
        records = run.memory.rounds()
        return {
            "arm": arm.name,
            "seed": seed,
            "decisions": [f"{r.decision}: {r.because}" for r in records],
            "rounds": [by_length(run, round_) for round_ in (0, *(r.round for r in records))],
            "before": fresh(run, "base"),
            "after": fresh(run, run.memory.current),
        }


def by_length(run: Run, round_: int) -> dict[int, float]:
    """Return greedy accuracy on the held-out prompts of each length."""
    asked = {p.id: p.text for p in heldout(run)}
    answered = run.memory.responses(rounds=[round_], stages=[Stage.GREEDY])
    return _shares([(asked[r.prompt_id], r.text) for r in answered])


def fresh(run: Run, policy: str) -> dict[int, float]:
    """Return greedy accuracy on sums of each length that nobody has seen."""
    asked = list(questions(range(1, REACH + 1), FRESH, "fresh"))
    requests = tuple(Request(q, Origin.GREEDY, (Message("user", q),), seed=0) for q in asked)
    how = Sampling(0.0, 0, 1.0, run.config.sample.max_new_tokens)
    unit = Unit(0, Stage.GREEDY, 0, requests, how, policy)
    answers = [generation.text for _, made in run.engine.generate([unit]) for generation in made]
    return _shares(list(zip(asked, answers, strict=True)))


def _shares(answered: Sequence[tuple[str, str]]) -> dict[int, float]:
    right: dict[int, list[bool]] = {}
    for question, text in answered:
        right.setdefault(length(question), []).append(text == solve(question))
    return {digits: sum(found) / len(found) for digits, found in sorted(right.items())}


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
    parser.add_argument("--arms", nargs="+", choices=WAYS, default=["ssd", "lmsi", "length", "ours", "oracle"])
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
        teach(model, options.seed)
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
