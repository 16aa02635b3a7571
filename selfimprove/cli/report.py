"""`selfimprove report` and `selfimprove compare`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import UserError
from .group import Command
from .parameters import complete_runs, run_argument


@click.command(
    cls=Command, epilog="selfimprove report quickstart\nselfimprove report quickstart --out quickstart.html\n"
)
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to write; report.html in the run's folder if unset."
)
@click.option(
    "--responses",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Most responses, about; prompts beyond are left out at random.",
)
def report(run_name: str, out: Path | None, responses: int) -> None:
    """Write a report of RUN as one HTML file, usable offline; also of a run in progress."""
    from ..reports.html import write_report
    from ..run.folder import run_folder

    folder = run_folder(run_name)
    out = out or folder / "report.html"
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"no file can be written at {out}: {_why_not(out)}; name another place")
    click.echo(write_report(folder, out, responses))


def _why_not(out: Path) -> str:
    return "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"


@click.command(cls=Command)
@click.argument("before", metavar="RUN", shell_complete=complete_runs)
@click.argument("after", metavar="RUN", shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(before: str, after: str, as_json: bool) -> None:
    """Compare the figures and the settings of two runs, side by side."""
    from ..reports.compare import compare_runs
    from ..run.folder import run_folder

    found = compare_runs(run_folder(before), run_folder(after))
    click.echo(json.dumps(found.as_dict()) if as_json else found.table)
