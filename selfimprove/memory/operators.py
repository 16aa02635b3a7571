"""Cost and yield of each operator in a round."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..types import VOTERS, Judgement, Origin, Poll, Response, Tally, Verdict

if TYPE_CHECKING:
    from . import ResponseMemory


@dataclass(frozen=True, slots=True)
class OperatorLedger:
    """Cost and yield of one operator in a round."""

    tokens: int
    """New tokens generated."""
    candidates: int
    """Responses written."""
    parsed: int
    """Candidates whose answer could be read."""
    survivors: int
    """Candidates that select kept."""
    votes_changed: int
    """Prompts with a candidate of this operator whose winning answer differs after its votes joined."""


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
    """Return the ledger of each operator of a round."""
    return ledger(
        memory.responses(rounds=[round_], origins=VOTERS),
        memory.judgements(round_, Poll.FINAL),
        memory.tallies(round_, Poll.SAMPLED),
        memory.tallies(round_, Poll.FINAL),
        memory.verdicts(round_).values(),
    )
