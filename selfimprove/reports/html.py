"""The report: one HTML file, usable offline, with a run's figures and every response.

Read from the memory (also of a run in progress) and from `reports.figures`. Charts are drawn in the page by Observable
Plot (inlined, ISC), which adapts to the screen's width and to light or dark mode.
"""

import base64
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..config_file import to_yaml
from ..evaluation.metrics import METRICS, Health
from ..fsio import write_text
from ..memory import ResponseMemory
from ..run.folder import recorded_left_out
from ..types import Judgement, Prompt, Response, Stage, Verdict
from .figures import RoundFigures, load_figures

RESPONSES = 10_000
"""Default limit of the responses in the file, which keeps it small enough to send."""

VOTES = 3
"""Votes held in a round."""

SCRIPTS = ("d3.min.js", "plot.min.js", "report.js")


def write_report(folder: Path, out: Path, responses: int = RESPONSES) -> str:
    """Write the report of the run in `folder` to `out`, and return a line that describes it."""
    with ResponseMemory.open(folder / "memory.db") as memory, memory.db.snapshot():
        data = chart_data(folder, memory) | samples(memory, responses)
    write_text(out, render(data))
    shown, total = len(data["prompts"]), data["prompts_in_all"]
    count, megabytes = len(data["responses"]), out.stat().st_size / 1e6
    return f"wrote {out}, {megabytes:.1f} MB, {shown} of {total} prompts, {count} responses"


def render(data: dict[str, Any]) -> str:
    """Render the page. All texts are escaped; the content security policy allows only our own scripts."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    scripts = [_asset(name) for name in SCRIPTS]
    return environment.from_string(_asset("report.html.j2")).render(
        data,
        css=_asset("report.css"),
        scripts=scripts,
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        json=_inert(data),
    )


def _inert(data: dict[str, Any]) -> str:
    r"""Return JSON that cannot end the element it stands in: `<`, `>` and `&` become `\u003c` and so on."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("selfimprove").joinpath("data", name).read_text(encoding="utf-8")


def chart_data(folder: Path, memory: ResponseMemory) -> dict[str, Any]:
    """Return all that the charts and tables show, as rows ready for JSON."""
    found = load_figures(folder, memory)
    books = found.operators.items()
    seconds, tokens = found.seconds_by_stage, found.tokens_by_origin
    return {
        "run": folder.resolve().name,
        "current": memory.current,
        "config": to_yaml(found.config),
        "rounds": [asdict(record) for record in memory.rounds()],
        "heldout": found.heldout,
        "measured": found.measured,
        "health": _health(found.rounds),
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


def _last_round(memory: ResponseMemory) -> int:
    return max((unit.round for unit in memory.units()), default=0)


def _health(rounds: Sequence[RoundFigures]) -> list[dict[str, Any]]:
    """Return one row a metric and measured round: its value and, where the guard checked it, its limit."""
    rows = []
    for one in rounds:
        if one.health is None:
            continue
        seen, checks = Health.of(one.health), {check["name"]: check for check in one.checks}
        for metric in METRICS:
            row = {"name": metric.name, "round": one.round, "value": metric.value(seen), "limit": None, "passed": True}
            rows.append(row | checks.get(metric.name, {}))
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
        for round_ in range(1, _last_round(memory) + 1)
        for reason, count in Counter(v.reason for v in memory.verdicts(round_).values()).most_common()
    ]


def _lengths(memory: ResponseMemory, current: int) -> list[dict[str, Any]]:
    """Return the length distributions of held-out samples before and after, and of the last survivors."""
    groups = {"held-out, base": memory.responses(rounds=[0], stages=[Stage.PROBE])}
    if current:
        groups["held-out, now"] = memory.responses(rounds=[current], stages=[Stage.PROBE])
    kept = [v.response_id for v in memory.verdicts(_last_round(memory)).values() if v.kept]
    groups["survivors"] = memory.responses(ids=kept)
    return [
        {"who": who, "tokens": tokens, "share": round(count / len(group), 5)}
        for who, group in groups.items()
        for tokens, count in sorted(Counter(r.new_tokens for r in group).items())
    ]


COLUMNS = (
    *("id", "prompt", "round", "origin", "answer", "share", "reason", "value", "limit", "decided"),
    *("finish", "tokens", "text", "parents"),
)
"""Columns of `responses`; the page reads them by these names."""


@dataclass(frozen=True)
class Outcomes:
    """Last judgement and last verdict of each response, and all votes on each prompt."""

    judgements: dict[int, Judgement]
    verdicts: dict[int, tuple[int, Verdict]]
    """With the round of the selection."""
    votes: dict[str, list[dict[str, Any]]]
    """All votes on a prompt, by its id."""


def samples(memory: ResponseMemory, limit: int) -> dict[str, Any]:
    """Return prompts with their votes and all responses to them: about `limit` responses.

    If there are more, whole prompts are left out, chosen by their ids (hashes, thus at random).
    """
    answered = [id_ for (id_,) in memory.db.rows("SELECT DISTINCT prompt_id FROM responses ORDER BY prompt_id")]
    share = min(1.0, limit / max(memory.count(), 1))
    chosen = set(answered[: math.ceil(share * len(answered))])
    prompts, left_out = memory.prompts(), recorded_left_out(memory)
    shown = [prompt for prompt in prompts if prompt.id in chosen]
    place = {prompt.id: number for number, prompt in enumerate(shown)}
    outcomes = _outcomes(memory)
    return {
        "prompts": [_prompt(prompt, outcomes) for prompt in shown],
        "prompts_in_all": len(answered),
        "columns": COLUMNS,
        "responses": [_row(r, place[r.prompt_id], outcomes) for r in memory.responses(prompt_ids=list(place))],
        "splits": Counter(prompt.split.value for prompt in memory.own_prompts() if prompt.id not in left_out),
    }


def _outcomes(memory: ResponseMemory) -> Outcomes:
    outcomes = Outcomes({}, {}, defaultdict(list))
    for round_ in range(1, _last_round(memory) + 1):
        for index in range(VOTES):
            outcomes.judgements.update(memory.judgements(round_, index))
            for id_, t in memory.tallies(round_, index).items():
                vote = {"round": round_, "vote": index, "answer": t.answer}
                outcomes.votes[id_].append(vote | {"agreement": _short(t.agreement), "support": _short(t.support)})
        outcomes.verdicts.update({id_: (round_, verdict) for id_, verdict in memory.verdicts(round_).items()})
    return outcomes


def _prompt(prompt: Prompt, outcomes: Outcomes) -> dict[str, Any]:
    turns = [f"{message.role}: {message.content}" for message in prompt.messages]
    text = prompt.text if len(turns) == 1 else "\n".join(turns)
    return {"id": prompt.id, "split": prompt.split, "text": text, "votes": outcomes.votes.get(prompt.id, [])}


def _row(response: Response, prompt: int, outcomes: Outcomes) -> list[Any]:
    """Return a response as the values of COLUMNS."""
    judgement = outcomes.judgements.get(response.id)
    decided, verdict = outcomes.verdicts.get(response.id, (None, None))
    return [
        *(response.id, prompt, response.round, response.origin),
        *((judgement.answer, _short(judgement.share)) if judgement else (None, None)),
        *((verdict.reason, _short(verdict.value), _short(verdict.limit)) if verdict else (None, None, None)),
        *(decided, response.finish, response.new_tokens, response.text, response.parents),
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
