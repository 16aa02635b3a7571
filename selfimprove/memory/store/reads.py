"""Queries of a memory. Results are data types of `types`, in a deterministic order."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ...outcomes import Decision, Judgement, Reason, Tally, Verdict
from ...types import BASE, CANDIDATES, Action, Origin, Prompt, Response, Source, Split, Stage
from ...types import unit_id as name_of
from ..search import full_text as texts
from .database import Database
from .rows import RESPONSES, SINCE, RoundRecord, UnitRecord, prompt_of, response_of, stack, unit_of

CHUNK = 16_384
"""Vectors per chunk where all are read (25 MB at 384 dimensions)."""

# The view `rounds` also sums over imports, whose counts may be of any size in files of older versions.
ROUNDS = """
SELECT d.decision, d.round, coalesce(w.responses, 0), coalesce(w.new_tokens, 0),
       (SELECT sum(wall_s) FROM units WHERE round = d.round),
       coalesce(s.kept, 0), coalesce(s.dropped, 0), d.because, d.policy
FROM decisions d
LEFT JOIN (SELECT u.round, count(*) AS responses, sum(r.new_tokens) AS new_tokens
           FROM responses r JOIN units u ON u.id = r.unit WHERE u.stage <> 'import' GROUP BY u.round) w USING (round)
LEFT JOIN (SELECT u.round, sum(v.reason = 'kept') AS kept, sum(v.reason <> 'kept') AS dropped
           FROM verdicts v JOIN units u ON u.id = v.unit GROUP BY u.round) s USING (round)
ORDER BY d.round
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of responses: all given conditions must hold.

    `kept` and `reasons` ask for what select decided: in round `decided`, or in any. With `trained`, only decisions of
    rounds that went on to train an adapter count, so that `kept` is exactly what was trained on.
    """

    round: int | None = None
    origin: Origin | None = None
    prompt_id: str | None = None
    kept: bool | None = None
    reasons: tuple[Reason, ...] | None = None
    decided: int | None = None
    trained: bool | None = None
    curated: str | None = None
    """`excluded` or `pinned`."""
    source: str | None = None
    """The run or file that a response was brought in from."""

    def conditions(self) -> list[tuple[str, Any]]:
        """Return conditions and values for `where`, over the view `history`."""
        rounds = "" if self.decided is None else f" AND u.round = {self.decided:d}"
        if self.trained:
            rounds += " AND u.round IN (SELECT round FROM units WHERE stage = 'train')"
        decided = (
            f"id IN (SELECT response_id FROM verdicts v JOIN units u ON u.id = v.unit WHERE reason IN {{}}{rounds})"
        )
        side = None if self.kept is None else [reason for reason in Reason if (reason is Reason.KEPT) == self.kept]
        return [
            ("round = ?", self.round),
            ("origin = ?", self.origin),
            ("prompt_id = ?", self.prompt_id),
            (decided, side),
            (decided, self.reasons),
            ("curation = ?", self.curated),
            ("id IN (SELECT response_id FROM sources WHERE place = ?)", self.source),
        ]


class MemoryReader:
    """The reading half of a memory; `ResponseMemory` adds the commits."""

    def __init__(self, database: Database) -> None:
        self.db = database

    # --- prompts -----------------------------------------------------------------------------------------------

    def prompts(self, split: Split | None = None) -> list[Prompt]:
        """Return the prompts in the order in which they were added."""
        clause, values = where(("split = ?", split))
        return [
            prompt_of(*row)
            for row in self.db.rows(f"SELECT id, split, messages FROM prompts{clause} ORDER BY seq", values)
        ]

    def joined(self) -> dict[str, int]:
        """Return the round from which each of the run's own prompts takes part, by prompt id: 1, or after `add`.

        Prompts that responses were brought in with are not the run's own, unless they are added.
        """
        rounds = {id_: 1 for (id_,) in self.db.rows("SELECT id FROM prompts ORDER BY seq")}
        sql = "SELECT stage, round, payload FROM units WHERE stage IN ('import', 'add') ORDER BY seq"
        for stage, round_, payload in self.db.rows(sql):
            ids = json.loads(payload).get("prompts", ())
            if stage == Stage.ADD:
                rounds.update(dict.fromkeys(ids, round_ + 1))
            else:
                for id_ in ids:
                    rounds.pop(id_, None)
        return rounds

    def own_prompts(self, split: Split | None = None) -> list[Prompt]:
        """Return the run's own prompts, those that have been added included, in the order in which they came."""
        own = self.joined()
        return [prompt for prompt in self.prompts(split) if prompt.id in own]

    @property
    def begun(self) -> int:
        """The last round that has begun; 0 before the first. What comes in from outside joins in the next one."""
        return self.db.rows("SELECT coalesce(max(round), 0) FROM units")[0][0]

    def prompt_vectors(self, prompt_ids: Sequence[str]) -> np.ndarray:
        """Return the embeddings of prompts, (n, d) float32, in the order asked for. KeyError for an unknown id."""
        sql = "SELECT p.id, v.vector FROM prompts p JOIN prompt_vectors v USING (seq) WHERE p.id IN {}"
        return self._vectors(sql, prompt_ids)

    # --- responses ---------------------------------------------------------------------------------------------

    def responses(
        self,
        *,
        ids: Iterable[int] | None = None,
        rounds: Iterable[int] | None = None,
        prompt_ids: Iterable[str] | None = None,
        origins: Iterable[Origin] | None = None,
        unit_ids: Iterable[str] | None = None,
        stages: Iterable[Stage] | None = None,
    ) -> list[Response]:
        """Return the responses that match all given filters, ordered by id."""
        clause, values = where(
            ("r.id IN {}", ids),
            ("u.round IN {}", rounds),
            ("r.prompt_id IN {}", prompt_ids),
            ("r.origin IN {}", origins),
            ("r.unit IN {}", unit_ids),
            ("u.stage IN {}", stages),
        )
        return [response_of(row) for row in self.db.rows(f"{RESPONSES}{clause} ORDER BY r.id", values)]

    def candidates(
        self,
        *,
        ids: Iterable[int] | None = None,
        rounds: Iterable[int] | None = None,
        prompt_ids: Iterable[str] | None = None,
    ) -> list[Response]:
        """Return the responses that can vote, be demonstrations or be selected, ordered by id.

        The only place where responses become candidates: of an origin that allows it, and not excluded by the user.
        """
        excluded = self.excluded()
        found = self.responses(ids=ids, rounds=rounds, prompt_ids=prompt_ids, origins=CANDIDATES)
        return [response for response in found if response.id not in excluded]

    def excluded(self) -> frozenset[int]:
        """Return the ids of the responses that the user has excluded."""
        return frozenset(id_ for (id_,) in self._curated("excluded", "response_id"))

    def pinned(self) -> list[int]:
        """Return the ids of the responses that the user has pinned and not excluded, the last pinned one last."""
        last = (
            "(SELECT max(u.seq) FROM overlays o JOIN units u ON u.id = o.unit "
            "WHERE o.response_id = curated.response_id AND o.action = 'pin')"
        )
        return [id_ for (id_,) in self._curated("pinned AND NOT excluded", f"{last}, response_id")]

    def _curated(self, condition: str, order: str) -> list[tuple[int]]:
        if self.db.version < SINCE["overlays"]:
            return []
        return self.db.rows(f"SELECT response_id FROM curated WHERE {condition} ORDER BY {order}")

    def restored(self) -> frozenset[int]:
        """Return the ids of the responses that were excluded once and are not now."""
        if self.db.version < SINCE["overlays"]:
            return frozenset()
        rows = self.db.rows("SELECT DISTINCT response_id FROM overlays WHERE action = 'unexclude'")
        return frozenset(id_ for (id_,) in rows) - self.excluded()

    def curated(self) -> dict[int, list[tuple[Action, str]]]:
        """Return what holds of each response that the user has excluded, pinned or annotated, and why."""
        if self.db.version < SINCE["overlays"]:
            return {}
        found: dict[int, list[tuple[Action, str]]] = {}
        sql = "SELECT response_id, excluded, pinned, note, because FROM curated ORDER BY response_id"
        for id_, excluded, pinned, note, because in self.db.rows(sql):
            said = [(Action.EXCLUDE, because)] if excluded else []
            said += [(Action.PIN, because)] if pinned else []
            said += [(Action.NOTE, note)] if note is not None else []
            if said:
                found[id_] = said
        return found

    def words_on(self, response_id: int) -> list[tuple[str, str, str]]:
        """Return (time, action, reason or note) of all that the user said of a response, oldest first."""
        if self.db.version < SINCE["overlays"]:
            return []
        sql = (
            "SELECT u.committed_at, o.action, o.reason FROM overlays o JOIN units u ON u.id = o.unit "
            "WHERE o.response_id = ? ORDER BY u.seq, o.action"
        )
        return self.db.rows(sql, (response_id,))

    def sources(self, ids: Iterable[int] | None = None) -> dict[int, Source]:
        """Return where responses that were brought in are from, by response id: of all, or of these."""
        if self.db.version < SINCE["sources"]:
            return {}
        clause, values = where(("response_id IN {}", ids))
        return {row[0]: Source(*row) for row in self.db.rows(f"SELECT * FROM sources{clause} ORDER BY 1", values)}

    def ids(self, wanted: Filter) -> np.ndarray:
        """Return the ids of the responses that match a filter, (n,) int64 ascending, as `allowed` of a search."""
        clause, values = where(*wanted.conditions())
        rows = self.db.rows(f"SELECT id FROM history{clause} ORDER BY id", values)
        return np.array([id_ for (id_,) in rows], dtype=np.int64)

    def search_text(self, query: str, limit: int = 20, allowed: np.ndarray | None = None) -> list[int]:
        """Return ids of the responses that contain all words of `query`, in prompt or text, best match first.

        `allowed` restricts the answer to these ids.
        """
        return texts.search(self.db, query, limit, allowed)

    def count(self) -> int:
        """Return the number of responses."""
        return self.db.rows("SELECT count(*) FROM responses")[0][0]

    def ancestors(self, response_id: int) -> list[int]:
        """Return the ids of all ancestors of a response (parents, their parents, ...), ascending."""
        return self._family(response_id, "parent_id", "response_id")

    def descendants(self, response_id: int) -> list[int]:
        """Return the ids of all descendants of a response, ascending."""
        return self._family(response_id, "response_id", "parent_id")

    def _family(self, response_id: int, wanted: str, known: str) -> list[int]:
        sql = f"""WITH RECURSIVE family (id) AS (
                    SELECT {wanted} FROM parents WHERE {known} = ?
                    UNION SELECT p.{wanted} FROM parents p JOIN family f ON p.{known} = f.id)
                  SELECT id FROM family ORDER BY id"""
        return [row[0] for row in self.db.rows(sql, (response_id,))]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """Return the embeddings of responses, (n, d) float32, in the order asked for. KeyError for one without."""
        return self._vectors("SELECT id, vector FROM response_vectors WHERE id IN {}", ids)

    def embedded(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return those of these responses that have an embedding, ascending: ids (n,), vectors (n, d)."""
        return _stacked(
            self.db.rows(f"SELECT id, vector FROM response_vectors WHERE id IN {_IN} ORDER BY id", (_json(ids),))
        )

    def vector_chunks(self, first_id: int = 1, last_id: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (ids (c,), vectors (c, d)) of the embedded responses from one id to another, both included."""
        sql = "SELECT id, vector FROM response_vectors WHERE id BETWEEN ? AND ? ORDER BY id"
        rows = self.db.stream(sql, (first_id, 2**63 - 1 if last_id is None else last_id))
        while chunk := list(islice(rows, CHUNK)):
            yield _stacked(chunk)

    def _vectors(self, sql: str, ids: Sequence[Any]) -> np.ndarray:
        found = dict(self.db.rows(sql.format(_IN), (_json(ids),)))
        return stack([found[id_] for id_ in ids])

    # --- units and rounds --------------------------------------------------------------------------------------

    def has_unit(self, unit_id: str) -> bool:
        """Return whether a unit is committed."""
        return self.db.one("SELECT 1 FROM units WHERE id = ?", (unit_id,)) is not None

    def units(self, round: int | None = None, stage: Stage | None = None) -> list[UnitRecord]:
        """Return the committed units in the order of their commits."""
        clause, values = where(("round = ?", round), ("stage = ?", stage))
        columns = "id, round, stage, idx, policy, sampling, payload, wall_s, committed_at"
        return [unit_of(row) for row in self.db.rows(f"SELECT {columns} FROM units{clause} ORDER BY seq", values)]

    def result(self, round: int, stage: Stage) -> dict[str, Any] | None:
        """Return the payload of a stage, or None when it is not committed or has none; of several units, the last."""
        sql = "SELECT payload FROM units WHERE round = ? AND stage = ? ORDER BY idx DESC LIMIT 1"
        row = self.db.one(sql, (round, str(stage)))
        return None if row is None or row[0] is None else json.loads(row[0])

    def rounds(self) -> list[RoundRecord]:
        """Return the rounds that the guard has decided on."""
        return [RoundRecord(Decision(decision), *row) for decision, *row in self.db.rows(ROUNDS)]

    @property
    def current(self) -> str:
        """Name of the policy that the next round starts from."""
        row = self.db.one("SELECT policy FROM moves ORDER BY seq DESC LIMIT 1")
        return BASE if row is None else row[0]

    @property
    def standing(self) -> tuple[int, ...]:
        """The rounds that `current` stands on: the base (0) and the kept rounds that led to it, in order.

        A round that `current` went back behind is not among them, whatever was decided on it.
        """
        led_to: dict[int, tuple[int, ...]] = {0: (0,)}
        at = 0
        for (round_,) in self.db.rows("SELECT round FROM moves ORDER BY seq"):
            led_to.setdefault(round_, (*led_to[at], round_))  # the first move to a round is that of keeping it
            at = round_
        return led_to[at]

    # --- votes and verdicts ------------------------------------------------------------------------------------

    def tallies(self, round: int, index: int = 0) -> dict[str, Tally]:
        """Return a vote's result for each prompt, by prompt id; empty when the vote was not held."""
        sql = (
            "SELECT prompt_id, answer, agreement, margin, votes, voters, abstained FROM tallies WHERE unit = ? "
            "ORDER BY prompt_id"
        )
        return {row[0]: Tally(*row) for row in self.db.rows(sql, (name_of(round, Stage.VOTE, index),))}

    def judgements(self, round: int, index: int = 0) -> dict[int, Judgement]:
        """Return a vote's judgements by response id."""
        sql = "SELECT response_id, answer, weight, share FROM judgements WHERE unit = ? ORDER BY response_id"
        return {row[0]: Judgement(*row) for row in self.db.rows(sql, (name_of(round, Stage.VOTE, index),))}

    def kinds(self, round: int, index: int = 0) -> dict[str, str]:
        """Return the kind of answer that a vote read for each prompt id; empty for votes that did not record it."""
        row = self.db.one("SELECT payload FROM units WHERE id = ?", (name_of(round, Stage.VOTE, index),))
        return {} if row is None or row[0] is None else json.loads(row[0])["kinds"]

    def measured(self, round: int, index: int, name: str) -> Any:
        """Return what a vote measured under a name; None if it did not."""
        row = self.db.one("SELECT payload FROM units WHERE id = ?", (name_of(round, Stage.VOTE, index),))
        return None if row is None or row[0] is None else json.loads(row[0]).get(name)

    def verdicts(self, round: int) -> dict[int, Verdict]:
        """Return select's verdicts of a round by response id."""
        sql = "SELECT response_id, reason, value, bound, weight FROM verdicts WHERE unit = ? ORDER BY response_id"
        return {
            id_: Verdict(id_, Reason(reason), value, bound, weight)
            for id_, reason, value, bound, weight in self.db.rows(sql, (name_of(round, Stage.SELECT),))
        }

    # --- what the memory belongs to ----------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return a fact about the run, such as a fingerprint, or None."""
        row = self.db.one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else row[0]


_IN = "(SELECT value FROM json_each(?))"
"""A list as ONE parameter: SQLite caps the number of parameters."""


def _stacked(rows: Sequence[tuple[int, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in rows], dtype=np.int64), stack([row[1] for row in rows])


def _json(values: Iterable[Any]) -> str:
    return json.dumps(list(values))


def where(*filters: tuple[str, Any]) -> tuple[str, list[Any]]:
    """Return a WHERE clause of the conditions whose value is given, and its parameters; `{}` takes a list."""
    given = [(condition, value) for condition, value in filters if value is not None]
    clause = " AND ".join(condition.format(_IN) for condition, _ in given)
    values = [_json(value) if "{}" in condition else value for condition, value in given]
    return (f" WHERE {clause}" if clause else ""), values
