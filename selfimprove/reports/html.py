"""The report: one HTML file, usable offline, with a run's figures and every response.

Read from the memory (also of a run in progress) and from `reports.figures`. Charts are drawn in the page by Observable
Plot (inlined, ISC), which adapts to the screen's width and to light or dark mode.
"""

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..config_file import shareable_yaml, to_yaml
from ..errors import UserError
from ..evaluation.families import REST
from ..evaluation.metrics import METRICS, Health
from ..fsio import write_text
from ..memory import ResponseMemory
from ..outcomes import Check, Decision, GuardVerdict
from ..types import Split, Stage
from .figures import Figures, RoundFigures, load_figures
from .samples import conversation, last_round, samples
from .share import shared

RESPONSES = 10_000
"""Default limit of the responses in the file, which keeps it small enough to send."""

NAME = 120
"""Characters of an answer that is named by its hash."""

SCRIPTS = ("d3.min.js", "plot.min.js", "report/page.js", "report/charts.js", "report/changes.js", "report/samples.js")


def write_report(
    folder: Path, out: Path, responses: int = RESPONSES, *, share: bool = False, texts: bool = False
) -> str:
    """Write the report of the run in `folder` to `out`, and return a line that describes it.

    `share` leaves out local paths and, without `texts`, all that prompts and responses say.

    Raises:
        UserError: something else than a report is at `out`.
    """
    if out.exists() and not _is_page(out):
        raise UserError(f"{out} exists and is no report: choose another name, or remove it")
    with ResponseMemory.open(folder / "memory.db") as memory, memory.db.snapshot():
        data = page_data(folder, memory, responses)
    file = Path(os.path.realpath(out))  # a link stays one
    write_text(file, render(shared(data, texts=texts) if share else data))
    size = f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB"
    if share and not texts:
        return f"{size}, without the texts of prompts and responses"
    return f"{size}, {len(data['prompts'])} of {data['prompts_in_all']} prompts, {len(data['responses'])} responses"


def shared_page(folder: Path, memory: ResponseMemory) -> str:
    """Return the report of a run as a page to send, without what prompts and responses say."""
    return render(shared(page_data(folder, memory, 1), texts=False))


def page_data(folder: Path, memory: ResponseMemory, responses: int = RESPONSES) -> dict[str, Any]:
    """Return all that the page shows: figures, held-out prompts, and about `responses` responses; ready for JSON."""
    found = load_figures(folder, memory)
    return chart_data(folder, found) | {"heldout_prompts": heldout_data(found)} | samples(found, responses)


def render(data: dict[str, Any]) -> str:
    """Render the page. All texts are escaped; the content security policy allows only our own scripts."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    scripts = [_asset(name) for name in SCRIPTS]
    return environment.from_string(_asset("report/page.html.j2")).render(
        data,
        css=_asset("report/page.css"),
        scripts=scripts,
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        json=_inert({key: value for key, value in data.items() if "config" not in key}),
    )


def _is_page(file: Path) -> bool:
    """Return whether a regular file begins as our page does; nothing else is opened."""
    beginning = _asset("report/page.html.j2").partition("{%")[0].encode()
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(beginning)) == beginning


def _inert(data: dict[str, Any]) -> str:
    r"""Return JSON that cannot end the element it stands in: `<`, `>` and `&` become `\u003c` and so on."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("selfimprove").joinpath("data", name).read_text(encoding="utf-8")


def chart_data(folder: Path, found: Figures) -> dict[str, Any]:
    """Return all that the charts and tables show, as rows ready for JSON."""
    memory, books = found.memory, found.operators.items()
    seconds, tokens = found.seconds_by_stage, found.tokens_by_origin
    return {
        "run": folder.resolve().name,
        "current": memory.current,
        "config": to_yaml(found.config),
        "shareable_config": shareable_yaml(found.config),
        "model": found.config.model.path,
        "seed": found.config.seed,
        "date": _date(memory),
        "k": found.config.evaluate.k,
        "prompts_measured": found.prompts_measured,
        "rounds": [asdict(record) | {"checks": _failed(found, record.round)} for record in memory.rounds()],
        "heldout": found.heldout,
        "measured": found.measured,
        "fallen": _fallen(found),
        "health": _health(found),
        "signs": {metric.name: metric.meaning for metric in METRICS},
        "progress": _progress(found.rounds),
        "operators": [
            {"round": round_, "origin": origin, **book} for round_, by in books for origin, book in by.items()
        ],
        "reasons": _reasons(memory),
        "lengths": _lengths(memory, found.final),
        "seconds": [{"stage": s, "value": round(seconds[s], 1)} for s in Stage if seconds.get(s, 0) >= 0.1],
        "tokens": [{"stage": s, "value": tokens[s]} for s in Stage if s in tokens],
    }


def heldout_data(found: Figures) -> dict[str, Any]:
    """Return the measured held-out prompts, the answers of each round, and what changed by round and against which.

    A round is compared with the base (0) and with the last one kept before it.
    """
    by_round = found.prompts.sides
    families = found.prompts.families
    prompts = [prompt for prompt in found.memory.prompts(Split.HELDOUT) if prompt.id in by_round.get(0, {})]
    decisions = {one.round: one.decision for one in found.decided}
    rounds = [round_ for round_ in by_round if round_]
    pairs = {round_: sorted({0, found.kept_before(round_)} & by_round.keys()) for round_ in rounds}
    return {
        "shown": found.shown,
        "current": found.final,
        "prompts": [{"id": p.id, "text": conversation(p), "family": families.get(p.id, REST)} for p in prompts],
        "names": _hashed_names(found),
        "rounds": [{"round": round_, "decision": decisions.get(round_)} for round_ in rounds],
        "sides": {
            round_: [side[p.id].row() if p.id in side else None for p in prompts] for round_, side in by_round.items()
        },
        "kept": {round_: against[-1] for round_, against in pairs.items()},
        "changes": {
            round_: {old: [one.row() for one in found.prompts.changes(round_, old)] for old in against}
            for round_, against in pairs.items()
        },
        "families": {
            round_: {old: [one.row() for one in found.prompts.family_changes(round_, old)] for old in against}
            for round_, against in pairs.items()
        },
    }


def _hashed_names(found: Figures) -> dict[str, str]:
    """Return the beginning of a response for each class that is named by a hash: free text, and long answers."""
    wanted: dict[int, str] = {}
    for read in found.prompts.answers.rounds.values():
        named = set(wanted.values())
        for id_, answer in read.items():
            if answer is not None and answer.startswith("text-") and answer not in named:
                wanted[id_] = answer
                named.add(answer)
    return {wanted[r.id]: " ".join(r.text.split())[:NAME] for r in found.memory.responses(ids=list(wanted))}


def _date(memory: ResponseMemory) -> str:
    """Return the day of the last committed unit (UTC), such as 27 November 2026; nothing before the first."""
    units = memory.units()
    if not units:
        return ""
    day = datetime.fromisoformat(units[-1].committed_at)
    return f"{day.day} {day:%B %Y}"


def _failed(found: Figures, round_: int) -> str:
    """Return the failed checks of a round in one line, without what its answers say."""
    checks = next(one.checks for one in found.rounds if one.round == round_)
    return GuardVerdict(Decision.REJECT, tuple(Check(**check) for check in checks)).because if checks else ""


def _fallen(found: Figures) -> str:
    fallen = found.fallen(found.shown, final=True) if found.shown else None
    return f"Round {fallen.round} is worse {fallen.text}.".replace("->", "→") if fallen else ""


def _health(found: Figures) -> list[dict[str, Any]]:
    """Return one row a metric and measured round: value, limit where the guard checked it, way to the limit used."""
    rows = []
    for one in found.rounds:
        if one.health is None:
            continue
        seen, checks, used = (
            Health.of(one.health),
            {check["name"]: check for check in one.checks},
            found.way_used(one.round),
        )
        for metric in METRICS:
            row = {"name": metric.name, "round": one.round, "value": metric.value(seen), "limit": None, "passed": True}
            rows.append(row | checks.get(metric.name, {}) | {"used": used.get(metric.name)})
    return rows


def _progress(rounds: Sequence[RoundFigures]) -> list[dict[str, Any]]:
    """Return held-out agreement, and accuracy where it was audited, of every measured round."""
    rows = []
    for one in rounds:
        accuracy = one.accuracy or {}
        for measure, value in (
            ("agreement (no labels)", one.agreement),
            ("mean@k accuracy", accuracy.get("mean_at_k")),
            ("greedy accuracy", accuracy.get("greedy")),
        ):
            if value is not None:
                rows.append({"round": one.round, "measure": measure, "value": value})
    return rows


def _reasons(memory: ResponseMemory) -> list[dict[str, Any]]:
    return [
        {"round": round_, "reason": reason.value, "count": count}
        for round_ in range(1, last_round(memory) + 1)
        for reason, count in Counter(v.reason for v in memory.verdicts(round_).values()).most_common()
    ]


def _lengths(memory: ResponseMemory, current: int) -> list[dict[str, Any]]:
    """Return the length distributions of held-out samples before and after, and of the last survivors."""
    groups = {"held-out, base": memory.responses(rounds=[0], stages=[Stage.PROBE])}
    if current:
        groups["held-out, now"] = memory.responses(rounds=[current], stages=[Stage.PROBE])
    kept = [v.response_id for v in memory.verdicts(last_round(memory)).values() if v.kept]
    groups["survivors"] = memory.responses(ids=kept)
    return [
        {"who": who, "tokens": tokens, "share": round(count / len(group), 5)}
        for who, group in groups.items()
        for tokens, count in sorted(Counter(r.new_tokens for r in group).items())
    ]
