"""Talk to a run's current policy, beside the base or another round if asked."""

from pathlib import Path

import click

from .errors import UserError
from .memory import ResponseMemory
from .policy import Policy
from .run import adapter_folder, saved_config
from .terminal import printable
from .types import BASE, Message, Sampling


def policy_name(folder: Path, against: str) -> str:
    """Return the policy that `against` names: `base` or a round number.

    Raises:
        UserError: that round has no adapter.
    """
    name = against if against == BASE else f"r{int(against):04d}" if against.isdecimal() else against
    adapter = adapter_folder(folder, name)
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"no policy {against!r} in {folder}; use base or the number of a trained round")
    return name


def chat_loop(folder: Path, against: str | None) -> None:
    """Read lines and answer each with every chosen policy, same seed; the conversation is the first policy's."""
    config = saved_config(folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        names = [memory.current]
    if against is not None:
        names.append(policy_name(folder, against))
    policies = {}
    for name in dict.fromkeys(names):
        policies[name] = Policy.load(config.model)
        policies[name].use(adapter_folder(folder, name))
    sampling = Sampling(config.sample.temperature, config.sample.top_k, config.sample.top_p, 256)
    histories: dict[str, list[Message]] = {name: [] for name in policies}
    click.echo(f"{' | '.join(policies)}   (an empty line ends)")
    turn = 0
    while text := click.prompt("you", default="", show_default=False, prompt_suffix=" > ").strip():
        for name, policy in policies.items():
            histories[name].append(Message("user", text))
            answer = _answer(policy, histories[name], sampling, seed=turn)
            histories[name].append(Message("assistant", answer))
            click.echo(f"{name:>6} > {printable(answer)}")
        turn += 1


def _answer(policy: Policy, history: list[Message], sampling: Sampling, seed: int) -> str:
    from .rollout import generate

    ids = policy.encode(history)
    rollout = generate(policy.model, [ids], [seed], sampling, eos_ids=policy.eos_ids, pad_id=policy.pad_id)[0]
    return policy.decode(rollout.token_ids)
