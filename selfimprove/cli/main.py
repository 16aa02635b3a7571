"""The commands. Each imports what it needs when it runs, so that `--help` is fast."""

from __future__ import annotations

import json
import shlex
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import __version__
from ..errors import Interrupted, UserError
from ..types import BASE
from .add import add
from .group import Group
from .memory import memory
from .parameters import (
    Round,
    complete_keys,
    complete_runs,
    config_argument,
    overrides_argument,
    run_argument,
)
from .report import compare, report

if TYPE_CHECKING:
    from ..config import RunConfig


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="selfimprove run configs/quickstart.yaml\n"
    "selfimprove memory quickstart list --kept -n 5\n"
    "selfimprove export quickstart out\n",
)
@click.version_option(__version__)
def main() -> None:
    """Make a language model better from its own history alone."""
    # These warnings address developers of libraries, not users.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@main.command(
    epilog="selfimprove run configs/quickstart.yaml\n"
    "selfimprove run configs/quickstart.yaml name=mine train.lr=2e-4\n"
    "selfimprove run configs/quickstart.yaml --resume\n"
)
@config_argument
@overrides_argument
@click.option("--rounds", type=click.IntRange(min=1), help="Number of rounds; also extends a finished run.")
@click.option("--resume", is_flag=True, help="Go on with an existing run from its last committed unit.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the resolved configuration, without running.")
def run(config: Path, overrides: tuple[str, ...], rounds: int | None, resume: bool, dry_run: bool) -> None:
    """Run the improvement rounds of CONFIG; `section.key=value` overrides settings."""
    from ..config_file import load_config, to_yaml
    from ..run.folder import home

    if rounds is not None:
        overrides = (*overrides, f"rounds={rounds}")
    settings = load_config(config, overrides)
    folder = home(config, overrides, settings)
    _refuse_at_once(settings, folder, resume)
    if dry_run:
        from .check import check

        click.echo(to_yaml(settings))
        click.echo(check(settings))
        return
    _stop_on_signals()  # before torch is imported: that takes seconds
    try:
        from ..rounds import improve
        from ..run.session import open_run

        with open_run(settings, resume=resume, folder=folder) as opened:
            summary = improve(opened)
    except Interrupted:
        begun = (folder / "memory.db").is_file()
        again = shlex.join(("selfimprove", "run", str(config), *overrides, *(["--resume"] if begun else [])))
        click.echo(f"\ngo on with: {again}", err=True)
        raise
    click.echo(f"\n{summary.table}\n")
    if summary.advice:
        click.echo("No round was kept: the model is as it was. To try in another run (name=NEW):")
        for line in summary.advice:
            click.echo(f"  {line}")
        click.echo(f"\nNext:\n  selfimprove report {folder}\n  selfimprove memory {folder} list -n 20")
        return
    if summary.figures["current"] == BASE:
        click.echo("The run ended with the base, which has the best score; rollback selects a kept round all the same.")
        click.echo(f"Next:\n  selfimprove report {folder}\n  selfimprove rollback {folder} ROUND")
        return
    click.echo(f"Next:\n  selfimprove chat {folder} --against base")
    click.echo(f"  selfimprove memory {folder} list --kept -n 5\n  selfimprove export {folder} out")


@main.command(
    epilog="selfimprove init mine.yaml --prompts my.jsonl\n"
    "selfimprove init mine.yaml --prompts my.csv prompts.column=question\n"
)
@click.argument("out", metavar="NAME.yaml", type=click.Path(path_type=Path))
@overrides_argument
@click.option("--prompts", required=True, metavar="FILE", help="Your prompts: a file, or hf:DATASET_ID[:CONFIG].")
@click.option("--model", help="HF id, local folder or GGUF file; the bundled model if unset.")
@click.option("--audit", metavar="FILE", help="Answers to some of them, to report accuracy; nothing learns from them.")
def init(out: Path, overrides: tuple[str, ...], prompts: str, model: str | None, audit: str | None) -> None:
    """Write a configuration that fits your prompts; a few answers are sampled for that.

    Length and kind of the answers, the held-out fraction, time and memory come from a probe of the model.
    `section.key=value` sets what you know better.
    """
    out = out if out.suffix in (".yaml", ".yml") else out.with_name(f"{out.name}.yaml")
    from .init import write_config  # imports the model code: takes seconds

    write_config(out, prompts, model, audit, overrides, click.echo)
    click.echo(f"\nNext:\n  selfimprove run {out}")


@main.command()
@config_argument
@overrides_argument
@click.option("--probe", is_flag=True, help="Also sample 64 prompts, and estimate time, headroom and recall.")
def check(config: Path, overrides: tuple[str, ...], probe: bool) -> None:
    """Check CONFIG, prompts, model, chat template and disk, and generate one answer; nothing is kept."""
    from ..config_file import load_config
    from .check import check

    click.echo(check(load_config(config, overrides), probe=probe))


@main.command(epilog="selfimprove read answers.jsonl")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--kind", default="auto", show_default=True, help="How answers are read, as vote.kind.")
@click.option("--reader", "own", metavar="FILE.py:FUNCTION", help="Your own reader, as vote.reader.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def read(file: Path, kind: str, own: str | None, as_json: bool) -> None:
    """Print how the answers in FILE are read: the class that each would vote for.

    FILE holds JSONL rows with `prompt` and `response` (or a list, `responses`). Rows of one prompt are one group.
    Free text is compared by its words alone here, not by an embedder.
    """
    from .read import read_file
    from .terminal import printable

    for row in read_file(file, kind, own):
        if as_json:
            click.echo(json.dumps(row))
            continue
        name = "(none read)" if row["class"] is None else printable(row["class"], 40)
        click.echo(f"{row['kind']:7} {name:40}  {printable(row['prompt'], 40)}  {printable(row['response'], 60)}")


@main.command()
@click.argument("key", required=False, shell_complete=complete_keys)
def explain(key: str | None) -> None:
    """Describe a configuration KEY or section: meaning, default and allowed values; without KEY, all of them."""
    from ..config_file import config_keys, config_values, suggestions

    keys, values = config_keys(), config_values()
    chosen = {k: v for k, v in keys.items() if key is None or k == key or k.startswith(f"{key}.")}
    if not chosen:
        meant = suggestions(key or "")
        hint = f", did you mean {' or '.join(meant)}?" if meant else ";"
        raise UserError(f"no configuration key {key!r}{hint} `selfimprove explain` lists them all")
    width = max(map(len, chosen))
    for name, (default, text) in chosen.items():
        click.echo(f"{name:{width}}  {text} [{default}]")
        click.echo(f"{'':{width}}  {values[name]}")


@main.command()
@click.argument("run_name", metavar="[RUN]", required=False, shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(run_name: str | None, as_json: bool) -> None:
    """Show what RUN is doing, decisions, accuracy by round and the current policy; without RUN, list the runs."""
    from ..run.folder import run_folder

    folder = run_folder(run_name) if run_name else None
    from ..reports import status as statuses

    if folder is None:
        rows = statuses.list_runs()
        for line in [json.dumps(rows)] if as_json else map(statuses.headline, rows):
            click.echo(line)
        return
    row = statuses.run_status(folder)
    click.echo(json.dumps(row) if as_json else statuses.table(row))


@main.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each change.")
def watch(run_name: str, as_json: bool) -> None:
    """Follow RUN from another terminal until it ends: stage, time left, survivors, accuracy by round."""
    from ..run.folder import run_folder

    folder = run_folder(run_name)
    from .watch import watch_run

    watch_run(folder, as_json)


@main.command()
@run_argument
@click.argument("round_", metavar="ROUND", type=Round())
def rollback(run_name: str, round_: int) -> None:
    """Make the policy of a kept ROUND current again; 0 is the base.

    A resumed run continues from it: the guard no longer compares new rounds with those that came after.
    """
    from ..memory import ResponseMemory
    from ..run.folder import run_folder

    with ResponseMemory.open(run_folder(run_name) / "memory.db", write=True) as memory:
        click.echo(f"current policy: {memory.rollback(round_)}")


@main.command(
    epilog="selfimprove export quickstart out\n"
    "selfimprove export quickstart out-gguf --as gguf --weights q8_0\n"
    "selfimprove export quickstart out --push me/better-smollm2\n"
)
@run_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--round", "round_", type=Round(1), help="Export this round instead of the current policy.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["merged", "adapter", "gguf", "ollama"]),
    default="merged",
    show_default=True,
    help="A transformers folder, the PEFT adapter alone, one file for llama.cpp, or that and a Modelfile.",
)
@click.option(
    "--weights",
    type=click.Choice(["f16", "q8_0"]),
    default="f16",
    show_default=True,
    help="How gguf and ollama store matrices: 16 bits, or 8 in blocks of 32.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="How merged stores weights; as the base model does when unset.",
)
@click.option("--push", metavar="OWNER/NAME", help="Upload OUT to this repository of the Hugging Face hub, too.")
@click.option("--public", is_flag=True, help="With --push: anybody may see the repository.")
def export(
    run_name: str,
    out: Path,
    round_: int | None,
    form: str,
    weights: str,
    dtype: str | None,
    push: str | None,
    public: bool,
) -> None:
    """Export the improved model of RUN to the folder OUT; it is reloaded and compared before that is reported."""
    from ..run.folder import run_folder

    if public and push is None:
        raise UserError("--public says who may see what --push uploads; add --push OWNER/NAME, or leave it out")
    folder = run_folder(run_name)
    from ..exports.from_run import prepare_export
    from ..exports.hub import Upload

    write = prepare_export(folder, out, round_=round_, form=form, weights=weights, dtype=dtype)
    upload = Upload.prepare(push, public) if push else None
    click.echo(write())
    if upload:
        click.echo(upload.send(out))


@main.command()
@run_argument
@click.option("--against", metavar="base|ROUND", help="Also answer with this policy, side by side, same seed.")
@click.option("--memory", "recalling", is_flag=True, help="Give the model demonstrations from its memory.")
def chat(run_name: str, against: str | None, recalling: bool) -> None:
    """Chat with the current policy of RUN; an empty line or Ctrl-D ends."""
    from ..run.folder import run_folder

    folder = run_folder(run_name)
    from .chat import chat_loop  # imports the model code: only for a run that exists

    chat_loop(folder, against, recalling)


@main.command(epilog="selfimprove serve quickstart --memory\n")
@run_argument
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option("--memory", "recalling", is_flag=True, help="Give the model demonstrations from its memory.")
@click.option("--learn", "learning", is_flag=True, help="Store what is asked, as prompts for a next round.")
def serve(run_name: str, port: int, recalling: bool, learning: bool) -> None:
    """Serve the current policy of RUN on this machine as an OpenAI-compatible endpoint. Needs `selfimprove[serve]`."""
    from ..run.folder import run_folder

    folder = run_folder(run_name)
    from ..serving.serve import serve as answer

    answer(folder, port=port, recalling=recalling, learning=learning)


def _refuse_at_once(settings: RunConfig, folder: Path, resume: bool) -> None:
    """Refuse, before models are loaded, a name that is taken or has nothing to resume, and a tracker that is missing.

    Raises:
        UserError: one of these, or settings that a resumed run must not change.
    """
    from ..memory import ResponseMemory
    from ..run.folder import run_names
    from ..run.resume import as_resumed, refuse_fewer_rounds
    from ..run.trackers import refuse_missing

    if resume and not (folder / "memory.db").is_file():
        known = run_names()
        there = f"; runs/ has {', '.join(known)}" if known else ""
        raise UserError(f"there is no run {settings.name!r} to go on with: leave out --resume to start it{there}")
    as_resumed(settings, folder, resume)
    if resume:
        with ResponseMemory.open(folder / "memory.db") as memory:
            refuse_fewer_rounds(memory, settings.rounds)
    refuse_missing(settings.report_to)


def _stop_on_signals() -> None:
    """First SIGINT or SIGTERM: raise Interrupted (nothing partial is ever committed). Second: the default, at once."""

    def stop(signum: int, _frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)
        raise Interrupted(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)


for command in (memory, report, compare, add):
    main.add_command(command)

if __name__ == "__main__":
    main()
