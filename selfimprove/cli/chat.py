"""Chat with a run's current policy; optionally side by side with another policy, and with demonstrations."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import click

from ..errors import UserError
from ..memory import ResponseMemory
from ..models.conversation import shared_system
from ..models.policy import Policy
from ..run.folder import adapter_folder, saved_config
from ..serving.demonstrations import Demonstrations
from ..types import Message, Sampling
from .terminal import padded, printable, wrapped

NEW_TOKENS = 256


def policy_name(folder: Path, against: str) -> str:
    """Return the policy that `against` names: `base`, or a round as `2`, `r2` or `r0002`.

    Raises:
        UserError: that round has no adapter.
    """
    digits = against.removeprefix("r")
    name = f"r{int(digits):04d}" if digits.isdecimal() else against
    adapter = adapter_folder(folder, name)
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"no policy {against!r} in {folder}; use base or the number of a trained round")
    return name


def chat_loop(folder: Path, against: str | None, recalling: bool = False) -> None:
    """Answer each line with all chosen policies, same seed; every policy continues its own conversation."""
    config = saved_config(folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        names = [memory.current, *([] if against is None else [policy_name(folder, against)])]
        policies = {}
        for name in dict.fromkeys(names):
            policies[name] = Policy.load(config.model, memory.meta("model"))
            policies[name].use(adapter_folder(folder, name))
        opened = next(iter(policies.values())).opens_thinking
        demonstrations = Demonstrations(memory, config, opened=opened) if recalling else None
        sampling = config.sample.sampling(NEW_TOKENS)
        system = shared_system(memory.own_prompts())  # the policy was trained under it
        histories: dict[str, list[Message]] = {name: [] for name in policies}
        click.echo(f"{' | '.join(policies)}   (an empty line ends)")
        for message in system:
            click.secho(f"  system: {printable(message.content, 90)}", dim=True)
        turn = 0
        while text := _ask():
            question = (*system, Message("user", text))
            *before, said = recalled(demonstrations, question, turn) if demonstrations else question
            asked = {name: p.encode([*before, *histories[name], said]) for name, p in policies.items()}
            left = min(room(policies[name], ids) for name, ids in asked.items())
            if left < 1:
                click.echo("not answered: the conversation would exceed the model's context; start a new chat")
                continue
            how = replace(sampling, max_new_tokens=min(NEW_TOKENS, left))
            streams = [stream(policies[name], ids, turn, how) for name, ids in asked.items()]
            for name, answer in zip(policies, show(list(policies), streams), strict=True):
                histories[name] += [said, Message("assistant", answer)]
            turn += 1


def room(policy: Policy, ids: Sequence[int]) -> int:
    """Return how many tokens may follow `ids`: the model's positions minus their number."""
    return NEW_TOKENS if policy.positions is None else policy.positions - len(ids)


def _ask() -> str:
    """Return the user's next line; "" for an empty line, Ctrl-D or Ctrl-C.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        text = click.prompt("you", default="", show_default=False, prompt_suffix=" > ").strip()
        text.encode()  # a locale such as C lets other bytes through, as surrogates
    except click.Abort:
        return ""
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UserError(f"the line is not UTF-8 (character {error.start}); convert the input to UTF-8") from None
    return text


def recalled(demonstrations: Demonstrations, asked: Sequence[Message], turn: int) -> Sequence[Message]:
    """Return a conversation with demonstrations before it, and print which they are."""
    requests = demonstrations.plan(asked, k=1, seed=turn)
    for response in (shown for request in requests for shown in demonstrations.shown(request)):
        line = f"recalled #{response.response_id}  {response.prompt_text} -> {response.text}"
        click.secho(f"  {printable(line, 100)}", dim=True)
    return requests[0].messages if requests else asked


def stream(policy: Policy, ids: Sequence[int], seed: int, sampling: Sampling) -> Iterator[str]:
    """Yield the answer so far after each token. Sampling is keyed as in a rollout: a seed gives one answer."""
    import torch

    from ..rollout.continuous import SeparateBatch
    from ..rollout.sampling import draw

    batch = SeparateBatch(policy.model)
    answer: list[int] = []
    for position in range(sampling.max_new_tokens):
        with torch.inference_mode():
            logits = batch.step(answer[-1:]) if answer else batch.admit([ids])
        answer.append(int(draw(logits, torch.tensor([seed], device=policy.device), position, sampling)))
        if answer[-1] in policy.eos_ids:
            return
        yield policy.decode(answer)
        if policy.stop and policy.stop(answer):
            return


def show(names: Sequence[str], streams: Sequence[Iterator[str]]) -> list[str]:
    """Stream answers in columns to a terminal; in a pipe, print them one after the other. Return the whole answers."""
    answers = [""] * len(names)
    live = sys.stdout.isatty()
    width, height = shutil.get_terminal_size()
    drawn = 0
    for step in zip_longest(*streams):
        answers = [new if new is not None else old for new, old in zip(step, answers, strict=True)]
        if live:
            lines = columns(names, answers, width)[-(height - 2) :]
            click.echo((f"\x1b[{drawn}A\x1b[J" if drawn else "") + "\n".join(lines))
            drawn = len(lines)
    if not live:
        for name, answer in zip(names, answers, strict=True):
            click.echo(f"{name:>6} > {printable(answer)}")
    elif drawn == height - 2:  # the beginning had scrolled out of the redrawn area
        click.echo(f"\x1b[{drawn}A\x1b[J" + "\n".join(columns(names, answers, width)))
    return answers


def columns(names: Sequence[str], texts: Sequence[str], width: int) -> list[str]:
    """Return the lines of texts side by side, wrapped, each below its name."""
    each = max(8, (width - 3 * (len(names) - 1)) // len(names))
    blocks = [
        [
            name,
            *(part for line in printable(text).expandtabs(4).split("\n") for part in wrapped(line, each)),
        ]
        for name, text in zip(names, texts, strict=True)
    ]
    return [" | ".join(padded(part, each) for part in row).rstrip() for row in zip_longest(*blocks, fillvalue="")]
