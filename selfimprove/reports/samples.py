"""Prompts with their votes, and responses with their verdicts, as rows for the page."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..memory import ResponseMemory
from ..outcomes import Judgement, Verdict
from ..run.folder import recorded_left_out
from ..types import Poll, Prompt, Response
from .figures import Figures

COLUMNS = (
    *("id", "prompt", "round", "origin", "answer", "share", "right", "reason", "value", "limit", "decided"),
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
    heldout: dict[int, str | None]
    """Class of each held-out response."""
    right: dict[int, bool]
    """Whether each held-out response is right, where audited."""


def samples(found: Figures, limit: int) -> dict[str, Any]:
    """Return prompts with their votes and all responses to them: about `limit` responses.

    If there are more, whole prompts are left out: half of the responses are for the held-out prompts that changed most,
    the others for prompts chosen by their ids (hashes, thus at random).
    """
    memory = found.memory
    counts = dict(memory.db.rows("SELECT prompt_id, count(*) FROM responses GROUP BY prompt_id ORDER BY prompt_id"))
    chosen = set(counts)
    if sum(counts.values()) > limit:
        changes = sorted(found.prompts.changes(found.shown), key=lambda one: (-abs(one.by or 0.0), not one.changed))
        chosen = set(_first([one.prompt.id for one in changes], counts, limit // 2))
        others = [id_ for id_ in counts if id_ not in chosen]
        chosen |= set(_first(others, counts, limit - sum(counts[id_] for id_ in chosen)))
    prompts, left_out = memory.prompts(), recorded_left_out(memory)
    shown = [prompt for prompt in prompts if prompt.id in chosen]
    place = {prompt.id: number for number, prompt in enumerate(shown)}
    outcomes = _outcomes(found)
    return {
        "prompts": [_prompt(prompt, outcomes) for prompt in shown],
        "prompts_in_all": len(counts),
        "columns": COLUMNS,
        "responses": [_row(r, place[r.prompt_id], outcomes) for r in memory.responses(prompt_ids=list(place))],
        "splits": Counter(prompt.split.value for prompt in memory.own_prompts() if prompt.id not in left_out),
    }


def _first(ids: Iterable[str], counts: Mapping[str, int], limit: int) -> list[str]:
    """Return the first prompts, in the order given, that have about `limit` responses together."""
    taken, total = [], 0
    for id_ in ids:
        if total >= limit:
            break
        taken.append(id_)
        total += counts[id_]
    return taken


def last_round(memory: ResponseMemory) -> int:
    """Return the last round that has anything in the memory."""
    return max((unit.round for unit in memory.units()), default=0)


def _outcomes(found: Figures) -> Outcomes:
    memory = found.memory
    read = {id_: answer for by_id in found.prompts.answers.rounds.values() for id_, answer in by_id.items()}
    outcomes = Outcomes({}, {}, defaultdict(list), read, found.prompts.right)
    for round_ in range(1, last_round(memory) + 1):
        for index in Poll:
            outcomes.judgements.update(memory.judgements(round_, index))
            for id_, t in memory.tallies(round_, index).items():
                vote = {"round": round_, "vote": index, "answer": t.answer}
                outcomes.votes[id_].append(vote | {"agreement": _short(t.agreement), "support": _short(t.support)})
        outcomes.verdicts.update({id_: (round_, verdict) for id_, verdict in memory.verdicts(round_).items()})
    return outcomes


def _prompt(prompt: Prompt, outcomes: Outcomes) -> dict[str, Any]:
    votes = outcomes.votes.get(prompt.id, [])
    return {"id": prompt.id, "split": prompt.split, "text": conversation(prompt), "votes": votes}


def conversation(prompt: Prompt) -> str:
    """Return all that a prompt says: its text, or its turns with their roles if there are several."""
    turns = [f"{message.role}: {message.content}" for message in prompt.messages]
    return prompt.text if len(turns) == 1 else "\n".join(turns)


def _row(response: Response, prompt: int, outcomes: Outcomes) -> list[Any]:
    """Return a response as the values of COLUMNS."""
    judgement = outcomes.judgements.get(response.id)
    decided, verdict = outcomes.verdicts.get(response.id, (None, None))
    return [
        *(response.id, prompt, response.round, response.origin),
        *((judgement.answer, _short(judgement.share)) if judgement else (outcomes.heldout.get(response.id), None)),
        outcomes.right.get(response.id),
        *((verdict.reason, _short(verdict.value), _short(verdict.limit)) if verdict else (None, None, None)),
        *(decided, response.finish, response.new_tokens, response.text, response.parents),
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
