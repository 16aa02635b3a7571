#!/usr/bin/env python3
"""Export of the response memory to Lance, and search there: exact, on Ray, and with Lance's own index.

    pip install 'selfimprove[lance,ray]' lance-ray   in an environment for this, such as .venv-lance
    python scripts/bench/lance_sets.py                    100,000 and 1,000,000 responses; about 8 GB of disk
    python scripts/bench/lance_sets.py --sizes 100000

Data, filter and queries are those of memory.py: the 8 nearest that were kept and are not held out, in batches of
64. Every exact search is compared with a float64 scan of the vectors, and with VectorIndex.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from memory import Data, K, exact, fill, median_ms, overlap

CELL_ROWS = 2048
"""Rows in a cell of the inverted index; with fewer rows it takes longer to train."""

CELLS = (8, 32)
"""Numbers of cells that are probed."""

IN_PYTHON = 100_000
"""Most responses that lance-ray's own scan is timed with: it makes Python lists of the vectors."""


def export(source: Path, out: Path) -> None:
    """Export and print seconds and peak RAM in MB; run in its own process, so that the peak is the export's."""
    from selfimprove.memory import ResponseMemory
    from selfimprove.memory.inspect.entries import find
    from selfimprove.memory.lance.write import write_lance

    begun = time.perf_counter()
    with ResponseMemory.open(source) as memory:
        write_lance(memory, find(memory), out)
    seconds = time.perf_counter() - begun
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))


def bench(responses: int, folder: Path) -> dict[str, Any]:
    """Return the figures of one size."""
    from selfimprove.config_engines import RayConfig
    from selfimprove.engines.ray import connect
    from selfimprove.memory import ResponseMemory, VectorIndex
    from selfimprove.memory.lance.search import condition, open_set, search, search_index, search_on_ray
    from selfimprove.outcomes import Reason

    data, queries = Data(responses), Data(responses).queries(4)
    source, out = folder / "memory.db", folder / "all.lance"
    with ResponseMemory.create(source) as memory:
        fill(memory, data)
    command = [sys.executable, __file__, "--export", str(source), str(out)]
    export_s, peak_mb = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    figures: dict[str, Any] = {"responses": responses, "export_s": export_s, "export_peak_mb": peak_mb}
    figures["bytes_a_response"] = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / responses
    figures["bytes_in_sqlite"] = source.stat().st_size / responses

    where = condition(reasons=[Reason.KEPT]) + " AND split = 'train'"
    truth = exact(data, queries[0])
    found = search(out, queries[0], K, where)
    with ResponseMemory.open(source) as memory:
        ours = VectorIndex(memory, segment_rows=2**40).search(queries[0], K, data.allowed() + 1)
    figures["scan_recall"] = overlap(found[0] - 1, truth)
    figures["scan_is_ours"] = all(np.array_equal(*pair) for pair in zip(found, ours, strict=True))
    figures["scan_ms"] = median_ms(lambda batch: search(out, batch, K, where), queries)
    figures["scan_one_ms"] = median_ms(lambda batch: search(out, batch, K, where), queries[:, :1])
    figures["lance_flat_ms"] = median_ms(lambda batch: flat(out, batch, where), queries[:2])

    connect(RayConfig())
    figures["ray_is_ours"] = all(
        np.array_equal(*pair) for pair in zip(search_on_ray(out, queries[0], K, where), ours, strict=True)
    )
    figures["ray_ms"] = median_ms(lambda batch: search_on_ray(out, batch, K, where), queries)
    if responses <= IN_PYTHON:
        figures["lance_ray_one_ms"] = median_ms(lambda batch: lance_ray(out, batch[0], where), queries[:2, :1])
    import ray

    ray.shutdown()

    begun = time.perf_counter()
    open_set(out).create_index("vector", "IVF_SQ", metric="dot", num_partitions=max(1, responses // CELL_ROWS))
    figures["index_s"] = time.perf_counter() - begun

    def searched(cells: int, batch: np.ndarray) -> object:
        return search_index(out, batch, K, where, cells)

    for cells in CELLS:
        figures[f"index_ms_{cells}"] = median_ms(partial(searched, cells), queries)
        figures[f"index_recall_{cells}"] = overlap(search_index(out, queries[0], K, where, cells)[0] - 1, truth)
    return figures


def flat(out: Path, batch: np.ndarray, where: str) -> None:
    """Search a batch with Lance's own exact search."""
    from selfimprove.memory.lance.search import open_set

    question = {"column": "vector", "q": batch, "k": K, "metric": "dot", "use_index": False}
    open_set(out).to_table(["id", "_distance"], where, nearest=question, prefilter=True)


def lance_ray(out: Path, query: np.ndarray, where: str) -> None:
    """Search for one query with lance-ray."""
    from lance_ray import vector_search

    question = {"column": "vector", "q": query, "k": K, "metric": "dot"}
    vector_search(str(out), nearest=question, columns=["id"], filter=where, num_workers=1)


def main() -> None:
    """Parse the command line, run, and print one JSON line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000], help="responses of each run")
    parser.add_argument("--export", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.export:
        export(*args.export)
        return
    for responses in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(bench(responses, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
