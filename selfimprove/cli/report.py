"""`selfimprove report` and `selfimprove compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from ..errors import UserError
from .group import Command
from .parameters import complete_runs, run_argument


@click.command(
    cls=Command, epilog="selfimprove report quickstart\nselfimprove report quickstart --share --out quickstart.html\n"
)
@run_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where to write; report.html (shared.html) in the run's folder if unset.",
)
@click.option(
    "--responses",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Most responses, about; prompts beyond are left out, those that changed last.",
)
@click.option("--share", is_flag=True, help="A page to send: no texts of prompts and responses, no local paths.")
@click.option("--texts", is_flag=True, help="With --share: leave the texts in.")
@click.option("--live", is_flag=True, help="Show it in a browser on this machine and keep it up to date, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=8002, show_default=True, help="With --live.")
def report(run_name: str, out: Path | None, responses: int, share: bool, texts: bool, live: bool, port: int) -> None:
    """Write a report of RUN as one HTML file, usable offline; also of a run in progress."""
    from ..reports.html import write_report
    from ..run.folder import run_folder

    if texts and not share:
        raise UserError("--texts says what --share leaves in; add --share, or leave it out: a report holds all texts")
    folder = run_folder(run_name)
    out = out or folder / ("shared.html" if share else "report.html")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"no file can be written at {out}: {_why_not(out)}; name another place")
    if live:
        _show_live(folder, lambda file: write_report(folder, file, responses, share=share, texts=texts), out, port)
        return
    click.echo(write_report(folder, out, responses, share=share, texts=texts))


def _show_live(folder: Path, write: Callable[[Path], object], out: Path, port: int) -> None:
    """Serve the report on loopback until interrupted."""
    import webbrowser

    from ..reports.live import Live, make_server

    with make_server(Live(folder, write, out), port) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        click.echo(f"live report: {address}   (Ctrl-C ends)")
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _why_not(out: Path) -> str:
    return "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"


@click.command(cls=Command)
@click.argument("before", metavar="RUN", shell_complete=complete_runs)
@click.argument("after", metavar="RUN", shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(before: str, after: str, as_json: bool) -> None:
    """Compare two runs: figures, families and answers to held-out prompts of both, and the settings that differ."""
    from ..reports.compare import compare_runs
    from ..run.folder import run_folder

    found = compare_runs(run_folder(before), run_folder(after))
    click.echo(json.dumps(found.as_dict()) if as_json else found.table)
