#!/usr/bin/env python3
"""Throughput of the engines on the same units, and a small quickstart on each with a process killed in the middle.

    python scripts/bench/engines.py ray                       one actor beside the local engine, on one core
    python scripts/bench/engines.py ray --actors 2            two actors beside the local engine with two threads
    python scripts/bench/engines.py server --command "..."    a server's tokens/s, and the CPU cost of its client
    python scripts/bench/engines.py tables --command "..."    local, server and ray: the same configuration and seed

`tables` kills the server, and one of two actors, with SIGKILL in the middle of a stage, then checks the memory for lost
or duplicate responses, and exports. The upper bound of the client's cost is the CPU time of this process while the
server generates, as a fraction of the wall time. `--command` is `server.command`; see docs/scaling.md.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from selfimprove.config import ModelConfig
from selfimprove.config_engines import RayConfig, ServerConfig
from selfimprove.engines.engine import Engine
from selfimprove.engines.local import LocalEngine
from selfimprove.errors import MemoryError_
from selfimprove.memory import ResponseMemory
from selfimprove.models.policy import Policy
from selfimprove.seeds import seed_for
from selfimprove.types import BASE, Message, Origin, Request, Sampling, Split, Stage, Unit

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ROOT / "configs" / "prompts" / "everyday.jsonl"
SHRUNK = ("rounds=1", "prompts.limit=110", "evaluate.limit=32", "sample.unit_prompts=8", "model.threads=1")
K, NEW_TOKENS, UNIT_PROMPTS = 8, 24, 16


def units(count: int) -> list[Unit]:
    """The first everyday questions, K samples each, as units."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["prompt"] for line in lines[: count * UNIT_PROMPTS]]

    def requests(index: int) -> Iterator[Request]:
        for text in texts[index * UNIT_PROMPTS : (index + 1) * UNIT_PROMPTS]:
            for slot in range(K):
                yield Request(text, Origin.SAMPLE, (Message("user", text),), seed_for(text, slot))

    sampling = Sampling(0.7, 50, 1.0, NEW_TOKENS)
    return [Unit(1, Stage.SAMPLE, i, tuple(requests(i)), sampling, BASE) for i in range(count)]


def rate(engine: Engine, work: list[Unit]) -> tuple[float, float]:
    """Tokens/s of an engine on `work`, and the fraction of the time that this process spent computing."""
    began, cpu = time.perf_counter(), time.process_time()
    tokens = sum(g.new_tokens for _, generations in engine.generate(work) for g in generations)
    seconds = time.perf_counter() - began
    return tokens / seconds, (time.process_time() - cpu) / seconds


def time_ray(args: argparse.Namespace) -> dict[str, Any]:
    """Time the local engine with as many threads as actors, and Ray, in turn; start-up is not counted."""
    from selfimprove.engines.ray import RayEngine

    model = ModelConfig(path=args.model, threads=args.actors)
    local = LocalEngine(Policy.load(model), lambda name: None)
    ray = RayEngine(local, model, RayConfig(actors=args.actors))
    work = units(args.units)
    arms: dict[str, Engine] = {"local": local, "ray": ray}
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for engine in arms.values():
        rate(engine, work[: args.actors])
    for _ in range(args.runs):
        for name, engine in arms.items():
            rates[name].append(rate(engine, work)[0])
    ray.close()
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    return {"actors": args.actors, "tokens_per_second": medians, "ratio": round(medians["ray"] / medians["local"], 3)}


def time_server(args: argparse.Namespace) -> dict[str, Any]:
    """Time a server started here on the same units; the first request, which warms it up, is not counted."""
    from selfimprove.engines.server import ServerEngine

    local = LocalEngine(Policy.load(ModelConfig(path=args.model)), lambda name: None)
    with TemporaryDirectory() as folder:
        config = ServerConfig(url=args.url, command=args.command)
        engine = ServerEngine(local, config, rank=16, log_file=Path(folder) / "server.log")
        began = time.perf_counter()
        rate(engine, units(1))
        start = time.perf_counter() - began
        rates, costs = zip(*(rate(engine, units(args.units)) for _ in range(args.runs)), strict=True)
        engine.close()
    return {
        "start_s": round(start, 1),
        "tokens_per_second": round(statistics.median(rates), 1),
        "driver_share": round(statistics.median(costs), 4),
    }


def tables(args: argparse.Namespace) -> dict[str, Any]:
    """Run the quickstart on each engine, one after the other."""
    engines = {
        "local": (),
        "server": ("engine=server", f"server.url={args.url}", f"server.command={json.dumps(args.command)}"),
        "ray": ("engine=ray", "ray.actors=2"),
    }
    return {name: run(name, engines[name]) for name in args.engines.split(",")}


def run(name: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Run the small quickstart on an engine with one process killed, check the memory and export."""
    folder = ROOT / "runs" / f"engines-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-c", "from selfimprove.cli import main; main()"]
    quickstart = [*command, "run", "configs/quickstart.yaml", f"name=engines-{name}", *SHRUNK, *overrides]
    print(f"\n=== {name}", flush=True)
    began = time.perf_counter()
    process = subprocess.Popen(quickstart, cwd=ROOT)
    killer = threading.Thread(target=kill_in_the_middle, args=(process.pid, folder / "memory.db"), daemon=True)
    if name != "local":
        killer.start()
    if process.wait():
        raise SystemExit(f"the run on {name} ended with code {process.returncode}")
    figures = {"seconds": round(time.perf_counter() - began, 1), **inspect(folder)}
    with TemporaryDirectory() as out:
        exported = subprocess.run([*command, "export", folder, Path(out) / "model"], cwd=ROOT, check=True)
        figures["exported"] = exported.returncode == 0
    return figures


def kill_in_the_middle(pid: int, memory: Path) -> None:
    """Kill the server, or an actor, of the run `pid` once two units of samples are committed."""
    while not memory.is_file() or committed(memory) < 2:
        time.sleep(0.5)
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # processes end meanwhile
            line, parent = process.cmdline(), process.parent()
            server = parent is not None and any(part.endswith("child_guard.py") for part in parent.cmdline())
            if server or (line and line[0].startswith("ray::Worker")):
                print(f"*** SIGKILL to process {process.pid}: {' '.join(line)[:60]}", flush=True)
                process.kill()
                return


def committed(path: Path) -> int:
    """Return the number of committed units of samples in a memory that a run is writing."""
    with suppress(MemoryError_), ResponseMemory.open(path) as memory:  # it may not exist yet
        return len(memory.units(stage=Stage.SAMPLE))
    return 0


def inspect(folder: Path) -> dict[str, Any]:
    """Return the counts of the memory, its faults, and the number of lost or duplicate samples."""
    with ResponseMemory.open(folder / "memory.db") as memory:
        responses = memory.responses()
        samples = Counter(r.prompt_id for r in responses if r.origin is Origin.SAMPLE)
        whole = {p.id: K for p in memory.prompts(Split.TRAIN)}
        return {
            "responses": len(responses),
            "kept": sum(v.kept for v in memory.verdicts(1).values()),
            "faults": memory.verify(),
            "lost_or_doubled": sum(abs(samples[id_] - k) for id_, k in whole.items()),
            "digest": memory.digest()[:16],
        }


def main() -> None:
    """Read the options and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ray", "server", "tables"])
    parser.add_argument("--model", default="bundled:smollm2-135m", help="as model.path of a configuration")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--units", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--engines", default="local,server,ray")
    parser.add_argument("--url", default="http://127.0.0.1:8123")
    parser.add_argument("--command")
    args = parser.parse_args()
    print(json.dumps({"ray": time_ray, "server": time_server, "tables": tables}[args.what](args)))


if __name__ == "__main__":
    main()
