#!/usr/bin/env python3
"""Append and search times of the response memory, and of Chroma and LanceDB on the same data and filter.

    python scripts/bench/memory.py --setup            make .venv-memory with Chroma and LanceDB
    python scripts/bench/memory.py --json             100,000 and 1,000,000 responses; about 4 GB of disk and of RAM
    python scripts/bench/memory.py --large 0 --json   without the million

The vectors are synthetic: 384 dimensions, unit length, 40 responses around each prompt and the prompts around topics,
like sentence embeddings. Half of the responses are kept by select, one prompt in ten is held out; a query asks for the
8 nearest that are kept and not held out. The others get vectors, texts and two columns, and the same filter.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-memory"
PEERS = ("chromadb==1.5.9", "lancedb==0.40.0")
D, UNIT, BATCH, K, A_PROMPT, TOPICS = 384, 512, 64, 8, 40, 200
SMALL = 100_000


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return the rows scaled to length 1."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Data:
    """Synthetic responses, generated in blocks so that a million need no extra memory."""

    def __init__(self, responses: int) -> None:
        self.responses = responses
        rng = np.random.default_rng(0)
        topics = rng.standard_normal((TOPICS, D), dtype=np.float32)
        prompts = responses // A_PROMPT + 1
        near = topics[rng.integers(0, TOPICS, prompts)]
        self.prompts = unit_rows(near + rng.standard_normal((prompts, D), dtype=np.float32))
        self.heldout = rng.random(prompts) < 0.1
        self.kept = rng.random(responses) < 0.5
        self.prompt_of = rng.permutation(responses) // A_PROMPT

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows (b,), vectors (b, D)), a unit of work at a time; row r is response r + 1."""
        rng = np.random.default_rng(1)
        for start in range(0, self.responses, UNIT):
            rows = np.arange(start, min(start + UNIT, self.responses))
            noise = rng.standard_normal((len(rows), D), dtype=np.float32) / np.sqrt(np.float32(D))
            yield rows, unit_rows(self.prompts[self.prompt_of[rows]] + noise)

    def queries(self, batches: int) -> np.ndarray:
        """Return (batches, BATCH, D) queries near prompts."""
        rng = np.random.default_rng(2)
        near = self.prompts[rng.integers(0, len(self.prompts), batches * BATCH)]
        noise = rng.standard_normal(near.shape, dtype=np.float32) / np.sqrt(np.float32(D))
        return unit_rows(near + noise).reshape(batches, BATCH, D)

    def allowed(self) -> np.ndarray:
        """Return the rows that were kept and are not held out."""
        return np.flatnonzero(self.kept & ~self.heldout[self.prompt_of])

    def text(self, row: int) -> str:
        """Return the text of a response, about 100 characters."""
        return f"Response {row}: first the tens, then the ones, add both, check by taking one away. So it is {row}."


def median_ms(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> float:
    """Return the median time of a query in ms over batches; the first batch warms up and is not counted."""
    search(queries[0])
    times = []
    for batch in queries[1:]:
        begun = time.perf_counter()
        search(batch)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) / queries.shape[1] * 1e3


# --- ours -----------------------------------------------------------------------------------------------------------


def bench_ours(responses: int, folder: Path) -> dict[str, float]:
    """Append, reopen and search; the result is compared with a float64 scan."""
    from selfimprove.memory import ResponseMemory, VectorIndex

    data = Data(responses)
    path = folder / "memory.db"
    with ResponseMemory.create(path) as memory:
        append_s = fill(memory, data)
        begun = time.perf_counter()
        VectorIndex(memory).refresh()
        seal_s = time.perf_counter() - begun
    text_bytes = sum(len(data.text(row)) for row in range(responses))
    size = path.stat().st_size - text_bytes
    begun = time.perf_counter()
    with ResponseMemory.open(path) as memory:
        index = VectorIndex(memory)
        index.refresh()
        open_s = time.perf_counter() - begun
        begun = time.perf_counter()
        allowed = np.array(
            memory.db.rows(
                "SELECT v.response_id FROM verdicts v JOIN responses r ON r.id = v.response_id "
                "JOIN prompts p ON p.id = r.prompt_id WHERE v.reason = 'kept' AND p.split = 'train' ORDER BY 1"
            )
        )[:, 0]
        filter_s = time.perf_counter() - begun
        assert np.array_equal(allowed - 1, data.allowed())
        queries = data.queries(9)
        recall_ms = median_ms(lambda batch: index.search(batch, K, allowed), queries)
        found, _ = index.search(queries[0], K, allowed)
    return {
        "append_per_s": responses / append_s,
        "bytes_per_response": size / responses,
        "seal_s": seal_s,
        "open_s": open_s,
        "filter_s": filter_s,
        "recall_ms": recall_ms,
        "recall_at_8": overlap(found - 1, exact(data, queries[0])),
    }


def fill(memory: Any, data: Data) -> float:
    """Commit all responses and their verdicts; return the seconds of the responses."""
    from selfimprove.outcomes import Reason, Selection, Verdict
    from selfimprove.types import Finish, Generation, Message, Origin, Prompt, Request, Sampling, Split, Stage, Unit

    prompts = [
        Prompt(f"{i:016x}", (Message("user", f"Question {i}?"),), Split.HELDOUT if out else Split.TRAIN)
        for i, out in enumerate(data.heldout)
    ]
    memory.add_prompts(prompts, data.prompts)
    sampling = Sampling(0.7, 50, 1.0, 64)
    seconds = 0.0
    for index, (rows, vectors) in enumerate(data.blocks()):
        # every third response has two earlier ones as parents, as those of recall and revise have
        parents = [(int(row) // 2 + 1, int(row) // 3 + 1) if row % 3 == 0 and row >= UNIT else () for row in rows]
        asked = [prompts[data.prompt_of[row]] for row in rows]
        requests = tuple(
            Request(prompt.id, Origin.SAMPLE, prompt.messages, int(row), "", shown)
            for row, prompt, shown in zip(rows, asked, parents, strict=True)
        )
        unit = Unit(1, Stage.SAMPLE, index, requests, sampling, "base")
        generations = [Generation(data.text(row), Finish.STOP, 60, 30) for row in rows]
        begun = time.perf_counter()
        memory.commit_unit(unit, generations, vectors, wall_s=0.0)
        seconds += time.perf_counter() - begun
    verdicts = [Verdict(row + 1, Reason.KEPT if kept else Reason.MINORITY) for row, kept in enumerate(data.kept)]
    memory.commit_selection(
        1, Selection(tuple(v for v in verdicts if v.kept), tuple(v for v in verdicts if not v.kept))
    )
    return seconds


def exact(data: Data, queries: np.ndarray) -> np.ndarray:
    """Return the K best allowed rows for each query (q, K), by a scan in float64."""
    best = np.full((len(queries), K), -np.inf)
    rows_of_best = np.full((len(queries), K), -1)
    allowed = np.zeros(data.responses, dtype=bool)
    allowed[data.allowed()] = True
    for rows, vectors in data.blocks():
        rows, vectors = rows[allowed[rows]], vectors[allowed[rows]]
        scores = np.concatenate([best, queries.astype(np.float64) @ vectors.T.astype(np.float64)], axis=1)
        candidates = np.concatenate([rows_of_best, np.broadcast_to(rows, (len(queries), len(rows)))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        best, rows_of_best = np.take_along_axis(scores, order, 1), np.take_along_axis(candidates, order, 1)
    return rows_of_best


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean fraction of `truth` (q, K) that is in `found` (q, K): recall at K."""
    return float(np.mean([len(set(f) & set(t)) / K for f, t in zip(found.tolist(), truth.tolist(), strict=True)]))


# --- the others, each in its own process of .venv-memory -------------------------------------------------------------


def bench_chroma(responses: int, folder: Path) -> dict[str, float]:
    """Append and search with an embedded Chroma."""
    import chromadb

    data = Data(responses)
    client = chromadb.PersistentClient(str(folder / "chroma"), chromadb.Settings(anonymized_telemetry=False))
    table = client.create_collection("responses", configuration={"hnsw": {"space": "ip"}}, embedding_function=None)
    seconds = 0.0
    for rows, vectors in data.blocks():
        columns = [{"kept": bool(data.kept[row]), "heldout": bool(data.heldout[data.prompt_of[row]])} for row in rows]
        ids, texts = [str(row) for row in rows], [data.text(row) for row in rows]
        begun = time.perf_counter()
        table.add(ids=ids, embeddings=vectors, metadatas=columns, documents=texts)
        seconds += time.perf_counter() - begun
    where = {"$and": [{"kept": True}, {"heldout": False}]}

    def search(batch: np.ndarray) -> np.ndarray:
        found = table.query(query_embeddings=batch, n_results=K, where=where, include=["distances"])
        return np.array(found["ids"], dtype=np.int64)

    return peer_figures(data, seconds, search)


def bench_lancedb(responses: int, folder: Path) -> dict[str, float]:
    """Append and search with an embedded LanceDB: an exact scan, all queries of a batch in one call."""
    import lancedb
    import pyarrow as pa  # type: ignore[import-untyped]

    data = Data(responses)
    schema = pa.schema(
        [("id", pa.int64()), ("text", pa.string()), ("kept", pa.bool_()), ("heldout", pa.bool_()),
         ("vector", pa.list_(pa.float32(), D))]
    )  # fmt: skip
    table = lancedb.connect(str(folder / "lance")).create_table("responses", schema=schema)
    seconds = 0.0
    for rows, vectors in data.blocks():
        columns = [
            pa.array(rows),
            pa.array([data.text(row) for row in rows]),
            pa.array(data.kept[rows]),
            pa.array(data.heldout[data.prompt_of[rows]]),
            pa.FixedSizeListArray.from_arrays(vectors.ravel(), D),
        ]
        begun = time.perf_counter()
        table.add(pa.Table.from_arrays(columns, schema=schema))
        seconds += time.perf_counter() - begun
    table.optimize()

    def search(batch: np.ndarray) -> np.ndarray:
        question = table.search(list(batch)).distance_type("dot").where("kept AND NOT heldout", prefilter=True)
        found = question.select(["id", "_distance"]).limit(K).to_arrow()
        order = np.lexsort((found["_distance"].to_numpy(), found["query_index"].to_numpy()))
        return found["id"].to_numpy()[order].reshape(len(batch), -1)

    return peer_figures(data, seconds, search)


def peer_figures(data: Data, append_s: float, search: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Return the times and the recall of another store."""
    queries = data.queries(4)
    recall_ms = median_ms(search, queries)
    return {
        "append_per_s": data.responses / append_s,
        "recall_ms": recall_ms,
        "recall_at_8": overlap(search(queries[0]), exact(data, queries[0])),
    }


WORKERS = {"ours": bench_ours, "chroma": bench_chroma, "lancedb": bench_lancedb}


def in_a_process(who: str, responses: int, python: Path) -> dict[str, Any] | None:
    """Run one worker in a new process and folder; None when its environment does not exist."""
    if not python.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), __file__, "--worker", who, "--responses", str(responses), "--folder", folder]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "ANONYMIZED_TELEMETRY": "False"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{who}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def summary(
    small: dict[str, Any], large: dict[str, Any] | None, peers: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    """Return the figures by their names in the docs' table; None where another store or the large run is missing."""

    def ratio(peer: str, rate: Callable[[dict[str, Any]], float]) -> float | None:
        theirs = peers[peer]
        return None if theirs is None else rate(small) / rate(theirs)

    figures = {
        "append_per_s": small["append_per_s"],
        "bytes_per_response": small["bytes_per_response"],
        "recall_ms_100k": small["recall_ms"],
        "recall_at_8_100k": small["recall_at_8"],
        "filter_s_100k": small["filter_s"],
        "append_per_s_1m": large and large["append_per_s"],
        "recall_ms_1m": large and large["recall_ms"],
        "recall_at_8_1m": large and large["recall_at_8"],
        "open_s_1m": large and large["open_s"],
        "filter_s_1m": large and large["filter_s"],
        "seal_s_1m": large and large["seal_s"],
    }
    for peer in peers:
        figures[f"ratio_append_{peer}"] = ratio(peer, lambda run: run["append_per_s"])
        figures[f"ratio_recall_{peer}"] = ratio(peer, lambda run: 1 / run["recall_ms"])
    return figures | {"peers": peers}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="make .venv-memory and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--small", type=int, default=SMALL, help="responses of the run beside the peers")
    parser.add_argument("--large", type=int, default=10 * SMALL, help="responses of the large run; 0: leave it out")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--responses", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.setup:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "-q", *PEERS], check=True)
        return
    if args.worker:
        print(json.dumps(WORKERS[args.worker](args.responses, args.folder)))
        return
    ours = Path(sys.executable)
    theirs = VENV / "bin" / "python"
    small = in_a_process("ours", args.small, ours)
    if small is None:
        sys.exit(1)
    large = in_a_process("ours", args.large, ours) if args.large else None
    peers = {peer: in_a_process(peer, args.small, theirs) for peer in ("chroma", "lancedb")}
    figures = summary(small, large, peers)
    if args.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:22} {'-' if value is None else value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
