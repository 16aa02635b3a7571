"""`selfimprove memory RUN ...`: the group, and its commands for the memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import click

from ..errors import UserError
from .group import Group
from .memory_curate import curation
from .memory_options import (
    cut_reasoning,
    encoder,
    filters,
    found_entries,
    json_option,
    member,
    opened_memory,
    show_entries,
    vector_of,
)
from .memory_read import inspection
from .parameters import Limit, Round, id_argument, run_argument
from .terminal import say_left_out


@click.group(
    cls=Group,
    commands={**inspection.commands, **curation.commands},
    epilog="selfimprove memory quickstart list --kept -n 5\n"
    "selfimprove memory quickstart trace 4711\n"
    "selfimprove memory quickstart browse\n",
)
@run_argument
@click.pass_context
def memory(ctx: click.Context, run_name: str) -> None:
    """Inspect the response memory of RUN: responses, their ancestors, votes and verdicts."""
    ctx.obj = run_name


@memory.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to", "form", type=click.Choice(["jsonl", "parquet", "lance"]), help="Format; default: by the suffix of OUT."
)
@filters
@click.pass_obj
def export(run_name: str, out: Path, form: str | None, **wanted: Any) -> None:
    """Write responses to OUT: a .jsonl or .parquet file, or a .lance data set with their vectors.

    Lance needs `selfimprove[lance]`. `nearest` searches such a data set, where responses are embedded (`embed`).
    """
    from ..memory.inspect.entries import write_jsonl, write_parquet
    from ..memory.lance.write import write_lance

    form = form or out.suffix.removeprefix(".")
    if form not in ("jsonl", "parquet", "lance"):
        raise UserError(f"cannot tell the format of {out}; name it .jsonl, .parquet or .lance")
    if out.exists():
        raise UserError(f"{out} exists; choose another name or remove it")
    if not out.parent.is_dir():
        raise UserError(f"no folder {out.parent} to write {out.name} in; make it first")
    with opened_memory(run_name) as opened:
        writers: dict[str, Callable[..., None]]
        writers = {"jsonl": write_jsonl, "parquet": write_parquet, "lance": partial(write_lance, opened)}
        writers[form](found_entries(opened, wanted, -1), out)
    click.echo(f"wrote {out}")


@memory.command()
@id_argument
@click.argument("data", metavar="DATA", type=click.Path(path_type=Path))
@click.option("-n", "limit", type=Limit(1), default=10, show_default=True)
@click.option("--round", "round_", type=Round(), help="Only responses written in this round.")
@click.option("--prompt", "prompt_id", help="Only responses to this prompt (its whole id).")
@click.option("--reason", multiple=True, help="Only those with this last verdict; may be repeated.")
@click.option("--ray", "on_ray", is_flag=True, help="On the cluster at the run's ray.address, or one started here.")
@json_option
@click.pass_obj
def nearest(
    run_name: str,
    response_id: int,
    data: Path,
    limit: int,
    round_: int | None,
    prompt_id: str | None,
    reason: tuple[str, ...],
    on_ray: bool,
    as_json: bool,
) -> None:
    """List the responses in DATA, a Lance data set, nearest in meaning to response ID of RUN, with their cosine.

    DATA is what `export` wrote of this run, or of another with the same embedder.
    """
    from ..memory.lance import search as lance
    from ..outcomes import Reason
    from ..run.folder import run_folder, saved_config

    if on_ray:
        from ..engines.ray import connect

        connect(saved_config(run_folder(run_name)).ray)
    with opened_memory(run_name) as opened:
        lance.check_embedder(data, opened.meta("embedder"))
        query = vector_of(opened, run_name, response_id)
    where = lance.condition(
        round=round_, prompt_id=prompt_id, reasons=[member(Reason, name) for name in reason] or None
    )
    found = (lance.search_on_ray if on_ray else lance.search)(data, query, limit, where)
    near = [(int(id_), float(score)) for id_, score in zip(found[0][0], found[1][0], strict=True) if id_ != -1]
    show_entries(lance.entries_of(data, [id_ for id_, _ in near]), as_json, [score for _, score in near])


@memory.command()
@json_option
@click.pass_obj
def verify(run_name: str, as_json: bool) -> None:
    """Recompute all hashes, links and counts of the memory; exit code 2 if any is wrong."""
    with opened_memory(run_name) as opened:
        faults = opened.verify()
        count = opened.count()
    if as_json:
        click.echo(json.dumps({"responses": count, "faults": faults}))
    if faults:
        raise UserError(f"{len(faults)} fault(s): " + "; ".join(faults[:5]))
    if not as_json:
        click.echo(f"{count} responses, every hash, link and count is right")


@memory.command()
@json_option
@click.pass_obj
def path(run_name: str, as_json: bool) -> None:
    """Print the path of the SQLite file, for other tools to open."""
    from ..run.folder import run_folder

    file = str(run_folder(run_name) / "memory.db")
    click.echo(json.dumps({"path": file}) if as_json else file)


@memory.command(
    "import", epilog="selfimprove memory mine import logs.jsonl\nselfimprove memory mine import logs.jsonl --trust\n"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True, help="As past responses, which are recalled and vote.")
@click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="With --trust: weight of a vote; a sample of the round has 1.",
)
@click.pass_obj
def import_(run_name: str, file: Path, trust: bool, weight: float) -> None:
    """Add the responses in FILE: conversations, logs of an OpenAI-compatible server, or an export.

    They are in quarantine: for inspection, never recalled, never voting. With --trust they take part from the next
    round on: as demonstrations, and with votes that break ties but never outvote the run's own. FILE is any format of
    a prompt file, with `messages`, `conversations`, or a prompt and a response.
    """
    from ..memory.importing import import_file

    if isnan(weight):
        raise UserError(f"--weight is {weight}: give a number from 0 to 1")
    with opened_memory(run_name, write=True) as opened:
        done = import_file(opened, file, encoder(opened, run_name), trust=trust, weight=weight)
    how = f"trusted: they take part from round {done.begins} on" if trust else "in quarantine"
    click.echo(f"{done.responses} responses imported as {done.unit}, {how}")
    if done.unknown:
        click.echo(f"{done.unknown} left out: their prompts are not in the file, and not in this run")
    if done.unfit:
        click.echo(f"{done.unfit} left out: to held-out prompts, excluded, or no answers to a prompt alone")
    if done.other_system:
        click.echo(f"{done.other_system} are under a system message that no prompt of the run has: shown to none")
    say_left_out(done.faults, "more")


@memory.command()
@click.pass_obj
def embed(run_name: str) -> None:
    """Embed the responses that have no vector yet, for `similar`, `nearest` and Lance exports.

    A round embeds what it compares alone: demonstrations, and candidates of the agreed answer. Committed in parts:
    after Ctrl-C, the same command goes on.
    """
    from ..memory import VectorIndex
    from ..memory.embedding import embed_rest, embeddable

    with opened_memory(run_name, write=True) as opened:
        done = 0
        for done in embed_rest(opened, encoder(opened, run_name), cut_reasoning(run_name)):
            click.echo(f"{done} embedded")
        VectorIndex(opened).refresh()  # writes the files of a large index
        total = embeddable(opened)
    click.echo(f"all {total} responses are embedded" + ("" if done else " already"))


@memory.command()
@click.argument("embedder")
@click.pass_obj
def reembed(run_name: str, embedder: str) -> None:
    """Recompute all vectors with EMBEDDER (an id, a folder, bundled:minilm or hash:N), and use it from now on."""
    from ..config_file import to_yaml
    from ..fsio import write_text
    from ..memory import Embedder
    from ..memory.reembed import reembed as make_anew
    from ..run.folder import run_folder, saved_config

    folder = run_folder(run_name)
    config = saved_config(folder)
    loaded = Embedder.load(embedder, config.model.device)
    with opened_memory(run_name, write=True) as opened:
        make_anew(opened, loaded, cut_reasoning(run_name))
    write_text(folder / "config.yaml", to_yaml(config.model_copy(update={"embedder": embedder})))
    click.echo(f"all vectors are recomputed with {embedder}, which is now the embedder in {folder / 'config.yaml'}")


@memory.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8001, show_default=True)
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
@click.pass_obj
def browse(run_name: str, port: int, no_open: bool) -> None:
    """Browse the memory with Datasette on this machine, read-only, until Ctrl-C. Needs `selfimprove[browse]`."""
    from ..memory.inspect import browse as browser
    from ..run.folder import run_folder

    browser.browse(run_folder(run_name) / "memory.db", port=port, open_browser=not no_open)
