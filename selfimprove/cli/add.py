"""`selfimprove add`: further prompts for a run that has begun."""

from __future__ import annotations

import shlex

import click

from .group import Command
from .parameters import run_argument
from .terminal import say_left_out


@click.command(
    cls=Command,
    epilog="selfimprove add mine more.jsonl\nselfimprove run runs/mine/config.yaml --resume rounds=3\n",
)
@run_argument
@click.argument("file")
def add(run_name: str, file: str) -> None:
    """Add the prompts in FILE to RUN: they take part from the next round on, and are split as the others are.

    FILE is read as `prompts.path`, with the run's settings of columns. New held-out prompts are also answered by the
    base and by the kept policies, so that the guard compares on the same prompts.
    """
    from ..run.additions import add_prompts
    from ..run.folder import run_folder

    folder = run_folder(run_name)
    done = add_prompts(folder, file)
    click.echo(f"{done.train} prompts to learn from and {done.heldout} held out join in round {done.begins}")
    if done.known:
        click.echo(f"{done.known} are the run's already")
    if done.left_out:
        click.echo(f"{done.left_out} left out: near-duplicates across the held-out split")
    say_left_out(done.faults, "more lines")
    again = shlex.join(("selfimprove", "run", str(folder / "config.yaml"), "--resume", f"rounds={done.begins}"))
    click.echo(f"\nNext:\n  {again}")
