"""Sums with columns in any order, and a tiny transformer that is trained on short ones from scratch.

A sum is written as its columns in any order, each with a letter (index hints: Zhou et al. 2023, arXiv 2310.16028), a
column of dots above the highest, and the first letter; the answer from the smallest digit on: 17 + 25 is
`12b..c75a=a`, 42 is `2b4c0`. The letters start anywhere in the alphabet. With columns in order a model this small
learns the positions of short sums, of carries above all, and does not generalize to longer ones. The dots mark the end
of a sum as a column that is looked up like the others.
"""

import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SmolLM3Config, SmolLM3ForCausalLM

from selfimprove.fsio import new_folder
from selfimprove.seeds import seed_for

STEPS = 1400
BATCH = 64
LEARNING_RATE = 3e-3
RICH = 0.3
"""Fraction of the training sums in which most columns add up to nine, so that carries run far."""
WINDOW = 4
"""Sliding window, in tokens, of the layer with positions: a column and the token before it."""

END, PAD = "<end>", "<pad>"
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
)


def ask(digits: int, rng: Random, rich: float = 0.0) -> str:
    """Return the prompt of a random sum of two numbers with `digits` digits; `rich` is the chance of many nines."""
    low, high = 10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1
    a, b = (str(rng.randint(low, high))[::-1] for _ in range(2))
    if rng.random() < rich:
        b = "".join(str(9 - int(x)) if rng.random() < 0.6 else y for x, y in zip(a, b, strict=True))
    return write(list(zip(a, b, strict=True)), rng)


def write(columns: Sequence[tuple[str, str]], rng: Random) -> str:
    """Return a random writing of a sum, given the digits of its columns, the lowest first."""
    start = rng.randrange(len(string.ascii_lowercase) - len(columns))
    written = [
        x + y + letter for (x, y), letter in zip([*columns, (".", ".")], string.ascii_lowercase[start:], strict=False)
    ]
    return "".join(rng.sample(written, len(written))) + "=" + string.ascii_lowercase[start]


def read(question: str) -> tuple[tuple[str, str], ...]:
    """Return the digits of a sum's columns, the lowest first; equal for all its writings."""
    return tuple((x, y) for x, y, _ in sorted(re.findall(r"(\d)(\d)([a-z])", question), key=lambda c: c[2]))


def spell(digits: str, question: str) -> str:
    """Return the answer with these digits, the lowest first, in the letters of the question."""
    first = string.ascii_lowercase.index(question[-1])
    return digits[0] + "".join(
        letter + x for letter, x in zip(string.ascii_lowercase[first + 1 :], digits[1:], strict=False)
    )


def digits_of(answer: str) -> str:
    """Return the digits of an answer: the inverse of `spell`."""
    return answer[::2]


def solve(question: str) -> str:
    """Return the right answer: the digit of each column and the last carry, with the letters between them."""
    columns = read(question)
    total = sum((int(x) + int(y)) * 10**place for place, (x, y) in enumerate(columns))
    return spell(str(total).zfill(len(columns) + 1)[::-1], question)


def length(question: str) -> int:
    """Return the number of digits of each summand."""
    return len(question) // 3 - 1


def questions(lengths: Sequence[int], count: int, *key: object) -> Iterator[str]:
    """Yield `count` different sums of each length (fewer of one digit), drawn by key."""
    for digits in lengths:
        rng = Random(seed_for("digits", digits, *key))
        yield from dict.fromkeys(ask(digits, rng) for _ in range(count))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a character."""
    vocabulary = ["<unk>", PAD, END, *string.digits, *string.ascii_lowercase, ".", "="]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token=PAD, eos_token=END)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> SmolLM3ForCausalLM:
    """Return two layers: sliding-window attention with RoPE, then full attention without positions.

    Without the window, long sums have distances in the first layer that training had not, and none is answered.
    """
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
                use_sliding_window=True,
                sliding_window=WINDOW,
                layer_types=["sliding_attention", "full_attention"],
                max_position_embeddings=512,
                tie_word_embeddings=True,
                initializer_range=0.1,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def teach(folder: Path, seed: int, taught: int, steps: int = STEPS) -> Path:
    """Train a model from scratch on sums of up to `taught` digits, the short ones first, and save it."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    rng = Random(seed_for("digits", "teach", seed))
    for step in range(steps):
        done = step / steps
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 2.02 - 2 * done)
        longest = min(taught, 1 + int(3 * taught * done))  # all lengths from a third on
        digits = rng.choices(range(1, longest + 1), weights=range(1, longest + 1))[0]
        asked = [ask(digits, rng, RICH) for _ in range(BATCH)]
        rows = [tokenizer(q + solve(q) + END, add_special_tokens=False)["input_ids"] for q in asked]
        tokens = torch.tensor(rows)  # (B, T): all of one length
        start = len(asked[0])
        states = model.model(tokens[:, :-1]).last_hidden_state[:, start - 1 :]
        loss = torch.nn.functional.cross_entropy(model.lm_head(states).flatten(0, 1), tokens[:, start:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with new_folder(folder) as temporary:
        model.eval().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder
