"""Cost and yield of each operator in a round."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..outcomes import Judgement, Tally, Verdict
from ..types import VOTERS, Origin, Poll, Response, Stage

if TYPE_CHECKING:
    from . import ResponseMemory


@dataclass(frozen=True, slots=True)
class OperatorLedger:
    """Cost and yield of one operator in a round."""

    tokens: int
    """New tokens generated; those of revisions with their critiques and trial."""
    candidates: int
    """Responses written."""
    parsed: int
    """Candidates whose answer could be read."""
    survivors: int
    """Candidates that select kept."""
    votes_changed: int
    """Prompts with a candidate of this operator whose winning answer differs after its votes joined."""
    towards: int = 0
    """Revisions that give the consensus, where another answer led among those shown."""
    away: int = 0
    """Revisions that give another answer, where the consensus led among those shown."""


def ledger(
    responses: Sequence[Response],
    judgements: Mapping[int, Judgement],
    tallies_before: Mapping[str, Tally],
    tallies_after: Mapping[str, Tally],
    verdicts: Iterable[Verdict],
) -> dict[Origin, OperatorLedger]:
    """Return the ledger of each origin among `responses`, in the order of `Origin`.

    `judgements` are by response id, of the vote in which all take part; `tallies_before` and `tallies_after` are of the
    votes without and with the proposals.
    """
    kept = {verdict.response_id for verdict in verdicts if verdict.kept}
    changed = {
        prompt_id
        for prompt_id, tally in tallies_after.items()
        if prompt_id in tallies_before and tallies_before[prompt_id].answer != tally.answer
    }
    ledgers = {}
    for origin in Origin:
        own = [response for response in responses if response.origin is origin]
        if own:
            ledgers[origin] = OperatorLedger(
                tokens=sum(response.new_tokens for response in own),
                candidates=len(own),
                parsed=sum(r.id in judgements and judgements[r.id].answer is not None for r in own),
                survivors=sum(response.id in kept for response in own),
                votes_changed=len(changed & {response.prompt_id for response in own}),
            )
    return ledgers


def operators(memory: "ResponseMemory", round_: int) -> dict[Origin, OperatorLedger]:
    """Return the ledger of each operator of a round. The consensus of flips is that of the vote before revision."""
    written = memory.responses(rounds=[round_], origins=VOTERS)
    judgements = memory.judgements(round_, Poll.FINAL)
    ledgers = ledger(
        written,
        judgements,
        memory.tallies(round_, Poll.SAMPLED),
        memory.tallies(round_, Poll.FINAL),
        memory.verdicts(round_).values(),
    )
    critiques = memory.responses(rounds=[round_], stages=[Stage.TRIAL, Stage.CRITIQUE])
    if critiques:
        book = ledgers.get(Origin.REVISE, OperatorLedger(0, 0, 0, 0, 0))
        revisions = [r for r in written if r.origin is Origin.REVISE]
        towards, away = _flips(memory, revisions, judgements, memory.tallies(round_, Poll.RECALLED))
        tokens = book.tokens + sum(r.new_tokens for r in critiques)
        ledgers[Origin.REVISE] = replace(book, tokens=tokens, towards=towards, away=away)
    return ledgers


def _flips(
    memory: "ResponseMemory",
    revisions: Sequence[Response],
    judgements: Mapping[int, Judgement],
    tallies: Mapping[str, Tally],
) -> tuple[int, int]:
    """Return how many revisions went towards the consensus, and away from it."""
    parents = {r.id: r for r in memory.responses(ids={id_ for r in revisions for id_ in r.parents})}
    towards = away = 0
    for revision in revisions:
        rivals = [id_ for id_ in revision.parents if parents[id_].prompt_id == revision.prompt_id and id_ in judgements]
        shown = Counter(answer for id_ in rivals if (answer := judgements[id_].answer) is not None)
        judged, consensus = judgements.get(revision.id), tallies[revision.prompt_id].answer
        if not shown or judged is None or judged.answer is None:
            continue
        led = max(shown, key=lambda answer: (shown[answer], answer == consensus))
        towards += judged.answer == consensus != led
        away += led == consensus != judged.answer
    return towards, away
