"""A memory in one page of numbers."""

from dataclasses import dataclass

from .reads import MemoryReader

MOST = 10
"""Prompts named in `Overview.flipped`."""


@dataclass(frozen=True, slots=True)
class OperatorLine:
    """What one origin wrote: `kept` counts responses that survived select in at least one round."""

    origin: str
    responses: int
    kept: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Overview:
    """`reasons` counts verdicts over all rounds; `flipped` names the prompts whose voted answer changed most often."""

    prompts: dict[str, int]
    responses: int
    operators: tuple[OperatorLine, ...]
    reasons: dict[str, int]
    flipped: dict[str, int]
    bytes: int


def overview(memory: MemoryReader) -> Overview:
    """Count what is in the memory."""
    with memory.db.snapshot():
        operators = memory.db.rows(
            "SELECT origin, count(*), count(k.response_id), sum(new_tokens) FROM responses r "
            "LEFT JOIN (SELECT DISTINCT response_id FROM verdicts WHERE reason = 'kept') k ON k.response_id = r.id "
            "GROUP BY origin ORDER BY origin"
        )
        # lag() gives NULL before the first vote, and IS NOT tells NULL answers apart
        flipped = memory.db.rows(
            "SELECT prompt, count(*) AS flips FROM (SELECT p.text AS prompt, t.prompt_id, t.answer, "
            "  lag(t.answer) OVER turns AS old, row_number() OVER turns AS turn "
            "  FROM tallies t JOIN units u ON u.id = t.unit JOIN prompts p ON p.id = t.prompt_id "
            "  WINDOW turns AS (PARTITION BY t.prompt_id ORDER BY u.seq)) "
            "WHERE turn > 1 AND answer IS NOT old GROUP BY prompt_id ORDER BY flips DESC, prompt_id LIMIT ?",
            (MOST,),
        )
        return Overview(
            prompts=dict(memory.db.rows("SELECT split, count(*) FROM prompts GROUP BY split ORDER BY split")),
            responses=memory.count(),
            operators=tuple(OperatorLine(*row) for row in operators),
            reasons=dict(memory.db.rows("SELECT reason, count(*) FROM verdicts GROUP BY reason ORDER BY 2 DESC, 1")),
            flipped=dict(flipped),
            bytes=memory.db.path.stat().st_size,
        )
