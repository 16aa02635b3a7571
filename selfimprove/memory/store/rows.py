"""Conversion between data types and table rows, and the hashes of units."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...outcomes import Decision, Judgement, Selection, Tally
from ...types import Finish, Generation, Message, Origin, Prompt, Response, Sampling, Split, Stage, Unit

Row = tuple[Any, ...]
Tables = dict[str, list[Row]]

TABLES_OF_A_UNIT = {
    "responses": "SELECT * FROM responses WHERE unit = ? ORDER BY id",
    "parents": "SELECT * FROM parents WHERE response_id IN (SELECT id FROM responses WHERE unit = ?) "
    "ORDER BY response_id, position",
    "judgements": "SELECT * FROM judgements WHERE unit = ? ORDER BY response_id",
    "tallies": "SELECT * FROM tallies WHERE unit = ? ORDER BY prompt_id",
    "verdicts": "SELECT * FROM verdicts WHERE unit = ? ORDER BY response_id",
    "decisions": "SELECT * FROM decisions WHERE unit = ?",
    "sources": "SELECT * FROM sources WHERE response_id IN (SELECT id FROM responses WHERE unit = ?) "
    "ORDER BY response_id",
    "overlays": "SELECT * FROM overlays WHERE unit = ? ORDER BY response_id, action",
}
"""Tables with rows of units, and the query for a unit's rows in the order in which they are hashed."""

SINCE = {"sources": 3, "overlays": 3}
"""First schema version that has a table, where it is not the first one."""

RESPONSES = """
SELECT r.id, r.prompt_id, u.round, r.origin, r.unit, r.slot, r.text, r.finish, r.seed, u.policy, r.prompt_tokens,
       r.new_tokens,
       (SELECT json_group_array(parent_id) FROM
         (SELECT parent_id FROM parents WHERE response_id = r.id ORDER BY position))
FROM responses r JOIN units u ON u.id = r.unit
"""


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A committed unit of work. `sampling` for units that generate, `payload` for units that report."""

    id: str
    round: int
    stage: Stage
    index: int
    policy: str
    sampling: Sampling | None
    payload: dict[str, Any] | None
    wall_s: float
    committed_at: str


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round that the guard decided on. `policy` is the policy that was measured, kept or not."""

    decision: Decision
    round: int
    responses: int
    new_tokens: int
    wall_s: float
    kept: int
    dropped: int
    because: str
    policy: str


def storable(text: str) -> str:
    """Return `text` with NUL and lone surrogates replaced by U+FFFD; other text is unchanged.

    SQLite stores UTF-8, in which a lone surrogate does not exist, and its functions, the full-text index among them,
    end a text at NUL. Byte-level tokenizers can emit both.
    """
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "\ufffd")


def prompt_row(prompt: Prompt) -> Row:
    """Return (id, split, text, messages, sha). `messages` is ASCII JSON, which preserves any text."""
    messages = json.dumps([asdict(message) for message in prompt.messages])
    return prompt.id, prompt.split.value, storable(prompt.text), messages, prompt_sha(prompt.id, prompt.split, messages)


def prompt_sha(id_: str, split: str, messages: str) -> str:
    """Return the hash of a prompt that `verify` checks."""
    return sha256_json([id_, split, messages])


def prompt_of(id_: str, split: str, messages: str) -> Prompt:
    """Return a prompt from its columns."""
    return Prompt(id_, tuple(Message(**message) for message in json.loads(messages)), Split(split))


def unit_tables(unit: Unit, generations: Sequence[Generation], first_id: int) -> Tables:
    """Return the rows of a unit that generates; response `slot` gets id `first_id + slot`."""
    pairs = list(enumerate(zip(unit.requests, generations, strict=True)))
    return {
        "responses": [
            (
                *(first_id + slot, unit.id, slot, request.prompt_id, request.origin.value, generation.finish.value),
                *(request.seed, generation.prompt_tokens, generation.new_tokens, storable(generation.text)),
            )
            for slot, (request, generation) in pairs
        ],
        "parents": [
            (first_id + slot, position, parent)
            for slot, (request, _) in pairs
            for position, parent in enumerate(request.parents)
        ],
    }


def vote_tables(unit: str, judgements: Iterable[Judgement], tallies: Iterable[Tally]) -> Tables:
    """Return the rows of a vote, each table in the order of its key."""
    return {
        "judgements": sorted(
            (unit, j.response_id, j.answer, float(j.weight), None if j.share is None else float(j.share))
            for j in judgements
        ),
        "tallies": sorted(
            (unit, t.prompt_id, t.answer, float(t.agreement), float(t.margin), float(t.votes), t.voters, t.abstained)
            for t in tallies
        ),
    }


def selection_tables(unit: str, selection: Selection) -> Tables:
    """Return the verdicts, kept and dropped, in the order of their responses."""
    verdicts = sorted((*selection.kept, *selection.dropped), key=lambda v: v.response_id)
    return {
        "verdicts": [
            (unit, v.response_id, v.reason.value, _real(v.value), _real(v.limit), float(v.weight)) for v in verdicts
        ]
    }


def response_of(row: Row) -> Response:
    """Return a response from a row of `RESPONSES`."""
    id_, prompt_id, round_, origin, unit, slot, text, finish, seed, policy, prompt_tokens, new_tokens, parents = row
    return Response(
        id_, prompt_id, round_, Origin(origin), unit, slot, text, Finish(finish), seed, policy,
        prompt_tokens, new_tokens, tuple(json.loads(parents)) if parents != "[]" else (),
    )  # fmt: skip


def unit_of(row: Row) -> UnitRecord:
    """Return a unit from its columns in the order of `UnitRecord`."""
    id_, round_, stage, index, policy, sampling, payload, wall_s, committed_at = row
    how = None if sampling is None else Sampling(**json.loads(sampling))
    report = None if payload is None else json.loads(payload)
    return UnitRecord(id_, round_, Stage(stage), index, policy, how, report, wall_s, committed_at)


def rows_sha(id_: str, policy: str, sampling: str | None, payload: str | None, vectors: int, tables: Tables) -> str:
    """Return the hash of a unit and all its rows. Times are left out: a resumed run must get the same hash."""
    rows = [[name, tables[name]] for name in TABLES_OF_A_UNIT if tables.get(name)]
    return sha256_json([id_, policy, sampling, payload, vectors, rows])


def chain_sha(previous: str, rows: str) -> str:
    """Return the chained hash over a unit and all units before it; `previous` is "" for the first."""
    return hashlib.sha256(f"{previous}{rows}".encode()).hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hash of a JSON value. NaN is refused: SQLite would store it as NULL."""
    return hashlib.sha256(json.dumps(value, allow_nan=False, separators=(",", ":")).encode()).hexdigest()


def vector_rows(ids: Iterable[int], vectors: np.ndarray) -> list[Row]:
    """Return (id, crc, bytes) for float32 `vectors` (n, d)."""
    blobs = [vector.tobytes() for vector in np.ascontiguousarray(vectors, dtype="<f4")]
    return [(id_, zlib.crc32(blob), blob) for id_, blob in zip(ids, blobs, strict=True)]


def stack(blobs: Sequence[bytes]) -> np.ndarray:
    """Return stored vectors as one writable float32 array (n, d)."""
    if not blobs:
        return np.zeros((0, 0), dtype=np.float32)
    return np.frombuffer(bytearray().join(blobs), dtype="<f4").reshape(len(blobs), -1)


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)
