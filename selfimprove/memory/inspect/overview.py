"""Counts of a memory: prompts, responses by operator, verdicts, changed votes, ancestor concentration."""

from collections import Counter
from dataclasses import dataclass

from ...types import Action, Stage
from ..store.reads import MemoryReader
from .lineage import Echo, echo

MOST = 10
"""Prompts in `Overview.flipped`, and responses in `Overview.echo`."""

# total() cannot overflow: older versions imported counts of any size
OPERATORS = """SELECT origin, count(*) AS responses, count(k.response_id) AS kept,
       CAST(total(new_tokens) AS INTEGER) AS new_tokens
FROM responses r LEFT JOIN (SELECT DISTINCT response_id FROM verdicts WHERE reason = 'kept') k ON k.response_id = r.id
GROUP BY origin ORDER BY origin"""

# lag() gives NULL before the first vote, and IS NOT tells NULL answers apart
FLIPS = """SELECT prompt_id, prompt, count(*) AS flips
FROM (SELECT p.text AS prompt, t.prompt_id, t.answer, lag(t.answer) OVER turns AS old, row_number() OVER turns AS turn
      FROM tallies t JOIN units u ON u.id = t.unit JOIN prompts p ON p.id = t.prompt_id
      WINDOW turns AS (PARTITION BY t.prompt_id ORDER BY u.seq))
WHERE turn > 1 AND answer IS NOT old GROUP BY prompt_id ORDER BY flips DESC, prompt_id LIMIT 200"""


CURATED = {Action.EXCLUDE: "excluded", Action.PIN: "pinned", Action.NOTE: "annotated"}
"""Participles of what people can decide."""


@dataclass(frozen=True, slots=True)
class OperatorLine:
    """Counts of one origin: `kept` counts responses that survived select in at least one round."""

    origin: str
    responses: int
    kept: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class FlippedPrompt:
    """Number of times that the voted answer to a prompt changed."""

    prompt_id: str
    prompt: str
    flips: int


@dataclass(frozen=True, slots=True)
class Overview:
    """`reasons` counts verdicts over all rounds; `flipped` names the prompts whose voted answer changed most often.

    `echo` names the responses that most survivors of the last selection, that of `echo_round`, descend from.
    """

    prompts: dict[str, int]
    responses: int
    operators: tuple[OperatorLine, ...]
    reasons: dict[str, int]
    flipped: tuple[FlippedPrompt, ...]
    echo_round: int | None
    echo: tuple[Echo, ...]
    bytes: int
    sources: dict[str, int]
    """Responses that were brought in, by run or file."""
    curated: dict[str, int]
    """Responses that people excluded, pinned or annotated."""


def overview(memory: MemoryReader) -> Overview:
    """Count what is in the memory."""
    with memory.db.snapshot():
        last = last_selection(memory)
        return Overview(
            prompts=dict(memory.db.rows("SELECT split, count(*) FROM prompts GROUP BY split ORDER BY split")),
            responses=memory.count(),
            operators=tuple(OperatorLine(*row) for row in memory.db.rows(OPERATORS)),
            reasons=dict(memory.db.rows("SELECT reason, count(*) FROM verdicts GROUP BY reason ORDER BY 2 DESC, 1")),
            flipped=tuple(FlippedPrompt(*row) for row in memory.db.rows(FLIPS)[:MOST]),
            echo_round=last,
            echo=() if last is None else tuple(echo(memory, last, MOST)),
            bytes=memory.db.path.stat().st_size,
            sources=dict(sorted(Counter(source.place for source in memory.sources().values()).items())),
            curated=dict(sorted(Counter(CURATED[a] for said in memory.curated().values() for a, _ in said).items())),
        )


def last_selection(memory: MemoryReader) -> int | None:
    """Return the last round that has selected, or None."""
    return max((unit.round for unit in memory.units(stage=Stage.SELECT)), default=None)
