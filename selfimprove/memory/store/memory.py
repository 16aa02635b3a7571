"""The response memory: all responses of a run, with votes, verdicts and guard decisions, in one SQLite file.

A unit of work and all rows that it produced are one durable transaction, so a killed run continues with the units
that are not committed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...errors import MemoryError_
from ...outcomes import Decision, GuardVerdict, Judgement, Selection, Tally
from ...types import BASE, Generation, Overlay, Prompt, Response, Sampling, Source, Stage, Unit
from ...types import unit_id as name_of
from ..search import full_text as texts
from . import verify as checks
from .database import Database, utc_now
from .reads import MemoryReader
from .rows import (
    Row,
    Tables,
    chain_sha,
    prompt_row,
    rows_sha,
    selection_tables,
    storable,
    unit_tables,
    vector_rows,
    vote_tables,
)


@dataclass(frozen=True)
class Arrival:
    """Responses from a file or from another run's memory, with all that belongs to them.

    `rows` are (prompt id, origin, finish, seed, prompt tokens, new tokens, text), whose ids count on from `next_id`;
    `sources`, `overlays` and `parents` (response id, position, parent id) use these ids, and so do `vectors` (d,), as
    far as they are known. Responses that are not `trusted` are in quarantine: they never take part. `prompts` with
    `prompt_vectors` (m, d) may be known already.
    """

    rows: Sequence[Row]
    sources: Sequence[Source]
    payload: dict[str, Any]
    trusted: bool = False
    vectors: Mapping[int, np.ndarray] = field(default_factory=dict)
    prompts: Sequence[Prompt] = ()
    prompt_vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    parents: Sequence[Row] = ()
    overlays: Sequence[Overlay] = ()


class ResponseMemory(MemoryReader):
    """A memory file. Commits are idempotent: a unit that is committed already is not changed."""

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """Make a new memory and open it for writing.

        Raises:
            MemoryError_: something is there already, or another process writes there.
        """
        return cls(Database.create(Path(path)))

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> Self:
        """Open a memory, for reading unless told otherwise.

        Raises:
            MemoryError_: it is missing, damaged, foreign or newer, or (for writing) held by another process.
        """
        return cls(Database.open(Path(path), write=write))

    def close(self) -> None:
        """Close the file and give up the writer's lock. Safe to call twice."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- commits -----------------------------------------------------------------------------------------------

    def add_prompts(self, prompts: Sequence[Prompt], embeddings: np.ndarray) -> None:
        """Add prompts with their embeddings (n, d); prompts that are already there are not changed.

        Raises:
            MemoryError_: a prompt is stored with the other split: it would leak.
        """
        with self.db.transaction():
            self._add_prompts(prompts, embeddings)

    def commit_addition(self, prompts: Sequence[Prompt], embeddings: np.ndarray, payload: dict[str, Any]) -> str:
        """Add prompts (n, d) that are the run's own from the next round on, as one unit, and return its name."""
        round_, index = self.begun, len(self.units(stage=Stage.ADD))
        with self.db.transaction():
            self._add_prompts(prompts, embeddings)
            self._insert(round_, Stage.ADD, index, {}, payload=payload | {"prompts": [p.id for p in prompts]})
        return name_of(round_, Stage.ADD, index)

    def commit_overlays(self, overlays: Sequence[Overlay]) -> str:
        """Commit what the user says of responses, as one unit, and return its name."""
        index = len(self.units(stage=Stage.CURATE))
        unit = name_of(0, Stage.CURATE, index)
        rows = sorted({(unit, o.response_id, o.action.value, storable(o.reason)) for o in overlays})
        self._commit(0, Stage.CURATE, index, {"overlays": list(rows)}, wall_s=0.0)
        return unit

    def commit_unit(
        self, unit: Unit, generations: Sequence[Generation], embeddings: np.ndarray | None, *, wall_s: float
    ) -> list[Response]:
        """Commit a unit that generated: its responses, their parents and embeddings (n, d), in one transaction.

        Without `embeddings`, responses are embedded when something compares them (`commit_vectors`).
        """
        if not self.has_unit(unit.id):
            tables = unit_tables(unit, generations, self.next_id)
            if embeddings is not None:
                ids = [row[0] for row in tables["responses"]]
                tables["response_vectors"] = vector_rows(ids, self._checked(embeddings, len(ids)))
            with self.db.transaction():
                self._insert(unit.round, unit.stage, unit.index, tables, unit.policy, unit.sampling, wall_s=wall_s)
                texts.add(self.db, unit.id)
        return self.responses(unit_ids=[unit.id])

    def commit_vectors(self, ids: Sequence[int], vectors: np.ndarray) -> None:
        """Add the embeddings (n, d) of responses that have none. Open indexes may not see them: open them anew."""
        with self.db.transaction():
            self.db.insert("response_vectors", vector_rows(ids, self._checked(vectors, len(ids))))
            self.db.write("DELETE FROM segments WHERE last_id >= ?", (min(ids),))  # files that lack them

    def commit_vote(
        self,
        round: int,
        judgements: Sequence[Judgement],
        tallies: Sequence[Tally],
        *,
        index: int = 0,
        kinds: Mapping[str, str] | None = None,
        measured: Mapping[str, Any] | None = None,
        wall_s: float = 0.0,
    ) -> None:
        """Commit a vote, with the kind of answer that was read for each prompt id and what was `measured` of it (JSON).

        A round votes several times; `index` tells its votes apart.
        """
        tables = vote_tables(name_of(round, Stage.VOTE, index), judgements, tallies)
        payload = None if kinds is None else {"kinds": dict(kinds), **(measured or {})}
        self._commit(round, Stage.VOTE, index, tables, payload=payload, wall_s=wall_s)

    def commit_selection(self, round: int, selection: Selection, *, wall_s: float = 0.0) -> None:
        """Commit select's verdicts."""
        self._commit(round, Stage.SELECT, 0, selection_tables(name_of(round, Stage.SELECT), selection), wall_s=wall_s)

    def commit_result(
        self, round: int, stage: Stage, payload: dict[str, Any], *, index: int = 0, wall_s: float = 0.0
    ) -> None:
        """Commit the result of a stage as JSON. `payload` must contain no times, as it is part of `digest`."""
        self._commit(round, stage, index, {}, payload=payload, wall_s=wall_s)

    def commit_import(self, arrival: Arrival) -> str:
        """Commit responses that were not generated here, with their prompts, as one unit, and return its name.

        Trusted ones take part from the next round on. The unit's payload lists the prompts that came with them.
        """
        round_, index = self.begun if arrival.trusted else 0, len(self.units(stage=Stage.IMPORT))
        unit, ids = name_of(round_, Stage.IMPORT, index), range(self.next_id, self.next_id + len(arrival.rows))
        tables: Tables = {
            "responses": [
                (id_, unit, slot, *row[:-1], storable(row[-1]))
                for slot, (id_, row) in enumerate(zip(ids, arrival.rows, strict=True))
            ],
            "parents": sorted(arrival.parents),
            "sources": [
                (s.response_id, storable(s.place), s.ref, s.round, s.policy and storable(s.policy), s.age, s.weight)
                for s in arrival.sources
            ],
            "overlays": sorted((unit, o.response_id, o.action.value, storable(o.reason)) for o in arrival.overlays),
        }
        if arrival.vectors:
            embedded = sorted(arrival.vectors)
            vectors = self._checked(np.stack([arrival.vectors[id_] for id_ in embedded]), len(embedded))
            tables["response_vectors"] = vector_rows(embedded, vectors)
        known = {prompt.id for prompt in self.prompts()}
        fresh = [prompt.id for prompt in arrival.prompts if prompt.id not in known]
        with self.db.transaction():
            self._add_prompts(arrival.prompts, arrival.prompt_vectors)
            self._insert(round_, Stage.IMPORT, index, tables, payload=arrival.payload | {"prompts": fresh})
            texts.add(self.db, unit)
        return unit

    def commit_round(
        self, round: int, verdict: GuardVerdict, because: str, policy: str, *, back_to: int | None = None
    ) -> None:
        """Close a round and move `current`, in one transaction.

        It moves to `policy` where the guard keeps it, and to what round `back_to` was kept with where one is given.

        Raises:
            MemoryError_: round `back_to` was not kept.
        """
        unit = name_of(round, Stage.GUARD)
        if not self.has_unit(unit):
            decision = (round, unit, verdict.decision.value, because, policy)
            with self.db.transaction():
                self._insert(round, Stage.GUARD, 0, {"decisions": [decision]}, payload=asdict(verdict))
                if verdict.decision is Decision.KEEP:
                    self._move(round, policy, because)
                if back_to is not None:
                    self._move(back_to, self._kept_with(back_to), "the best kept round at the end")

    def rollback(self, round: int) -> str:
        """Move `current` back to the policy that a round was kept with (0: base), and return its name.

        Raises:
            MemoryError_: that round was not kept.
        """
        policy = self._kept_with(round)
        with self.db.transaction():
            self._move(round, policy, "rollback")
        return policy

    def _kept_with(self, round: int) -> str:
        kept = {0: BASE} | {r.round: r.policy for r in self.rounds() if r.decision is Decision.KEEP}
        if round not in kept:
            raise MemoryError_(f"round {round} was not kept; rounds to go back to: {', '.join(map(str, kept))}")
        return kept[round]

    def set_meta(self, key: str, value: str) -> None:
        """Record a fact about the run, such as a fingerprint. Part of `digest`, so no times."""
        with self.db.transaction():
            self.db.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def check_fingerprint(self, name: str, value: str) -> None:
        """Compare a fingerprint with the recorded one; record it where there is none.

        Raises:
            MemoryError_: they differ.
        """
        self.refuse_other(name, value)
        if self.meta(name) is None:
            self.set_meta(name, value)

    def refuse_other(self, name: str, value: str) -> None:
        """Raise MemoryError_ where another fingerprint is recorded."""
        known = self.meta(name)
        if known not in (None, value):
            raise MemoryError_(f"{self.db.path} was made with {name} {known}, this is {value}: {_way_out(name)}")

    @property
    def next_id(self) -> int:
        """Id of the next response to be committed."""
        return self.db.rows("SELECT coalesce(max(id), 0) + 1 FROM responses")[0][0]

    # --- checks ------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """Return a hash of the content without times: equal for a resumed and an uninterrupted run."""
        return checks.digest(self.db)

    def verify(self) -> list[str]:
        """Return all faults of the file, one line each; empty if there are none."""
        return checks.verify(self.db)

    # --- inside ------------------------------------------------------------------------------------------------

    def _add_prompts(self, prompts: Sequence[Prompt], embeddings: np.ndarray) -> None:
        """Add prompts to the transaction under way."""
        known = {prompt.id: prompt.split for prompt in self.prompts()}
        for prompt in prompts:
            if known.get(prompt.id, prompt.split) is not prompt.split:
                raise MemoryError_(f"prompt {prompt.id} is {known[prompt.id]} in {self.db.path}, now {prompt.split}")
        fresh = list({prompt.id: row for row, prompt in enumerate(prompts) if prompt.id not in known}.values())
        if fresh:
            seqs = range(len(known) + 1, len(known) + 1 + len(fresh))
            vectors = vector_rows(seqs, self._checked(embeddings, len(prompts))[fresh])
            self.db.insert("prompts", [(n, *prompt_row(prompts[row])) for n, row in zip(seqs, fresh, strict=True)])
            self.db.insert("prompt_vectors", vectors)

    def _commit(
        self,
        round: int,
        stage: Stage,
        index: int,
        tables: Tables,
        *,
        payload: dict[str, Any] | None = None,
        wall_s: float,
    ) -> None:
        if not self.has_unit(name_of(round, stage, index)):
            with self.db.transaction():
                self._insert(round, stage, index, tables, payload=payload, wall_s=wall_s)

    def _insert(
        self,
        round: int,
        stage: Stage,
        index: int,
        tables: Tables,
        policy: str = "",
        sampling: Sampling | None = None,
        *,
        payload: dict[str, Any] | None = None,
        wall_s: float = 0.0,
    ) -> None:
        """Add a unit and its rows to the transaction under way."""
        id_ = name_of(round, stage, index)
        sampling_json = None if sampling is None else json.dumps(asdict(sampling))
        payload_json = None if payload is None else json.dumps(payload, allow_nan=False, sort_keys=True)
        vectors = len(tables.get("response_vectors", ()))
        sha = rows_sha(id_, policy, sampling_json, payload_json, vectors, tables)
        last = self.db.one("SELECT chain_sha FROM units ORDER BY seq DESC LIMIT 1")
        what = (id_, round, stage.value, index, policy, sampling_json, payload_json, vectors)
        proof = (sha, chain_sha(last[0] if last else "", sha))
        self.db.insert("units", [(None, *what, *proof, wall_s, utc_now())])
        for table, rows in tables.items():
            self.db.insert(table, rows)

    def _move(self, round: int, policy: str, because: str) -> None:
        self.db.insert("moves", [(None, round, policy, because, utc_now())])

    def _checked(self, embeddings: np.ndarray, count: int) -> np.ndarray:
        """Return `embeddings` (count, d); ValueError unless they are finite unit vectors of the memory's one width."""
        first = self.db.one("SELECT length(vector) / 4 FROM prompt_vectors LIMIT 1")
        width = first[0] if first else embeddings.shape[-1]
        if embeddings.shape != (count, width):
            raise ValueError(f"embeddings have shape {embeddings.shape}, expected {(count, width)}")
        norms = np.linalg.norm(embeddings, axis=1)
        if not np.allclose(norms, 1, atol=1e-3):
            raise ValueError("embeddings must be finite unit vectors")
        return embeddings


def _way_out(name: str) -> str:
    if name == "prompts":
        return "use the file that it was made with, and add further prompts with `selfimprove add RUN FILE`"
    if name == "embedder":
        return "use the embedder that it was made with, or recompute its vectors with `memory reembed`"
    return f"use the {name} that it was made with, or start a new run"
