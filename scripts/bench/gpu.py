#!/usr/bin/env python3
"""Everything that a GPU has to show, in one command: correctness, rollouts, training, the quickstart.

    python scripts/bench/gpu.py --out DIR                          all sections, within 8 minutes on one GPU
    python scripts/bench/gpu.py --out DIR --only tests,rollout     some of them
    python scripts/bench/gpu.py --out DIR --device cpu --quick     the same code on a tiny model

Sections: `tests`, the checks of gpu_checks.py; `rollout`, both workloads of rollout.py beside `generate`; `training`,
the arms of training.py beside TRL, or a plain PEFT loop; `quickstart`, configs/quickstart.yaml with its accuracy.
Each runs in a process of its own with a time limit. A failure is a row with its last lines, and the others go on.
DIR/gpu.json holds all rows, written after each section; DIR has a log of each.
"""

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"tests": 90, "rollout": 130, "training": 120, "quickstart": 135}
"""Section -> its most seconds: less than 8 minutes in all."""
MODEL = "bundled:smollm2-135m"
LAST = 12
"""Lines of a traceback that are kept."""
PERIOD = 0.25
"""Seconds between two samples of the utilisation."""

sys.path.insert(1, str(ROOT))  # a bare machine has the checkout and does not install it

Row = dict[str, Any]
Record = Callable[[Row], None]


# -- the sections, each in a process of its own


def tests(options: argparse.Namespace, record: Record) -> None:
    """One row a check; those after a failure run too."""
    import gpu_checks

    with tempfile.TemporaryDirectory() as name:
        place = gpu_checks.Place(gpu_checks.teach_sums(Path(name)), options.device)
        for check, run in gpu_checks.CHECKS.items():
            began = time.perf_counter()
            try:
                row: Row = {"check": check, "passed": True, "found": run(place)}
            except Exception as error:  # whatever a device fails with is the result
                row = {"check": check, "passed": False, "found": _last_lines(error)}
            record(row | {"seconds": round(time.perf_counter() - began, 1)})


def rollout(options: argparse.Namespace, record: Record) -> None:
    """Tokens/s of both workloads beside `generate`, in batches of 64 and of all sequences."""
    import rollout as bench

    from selfimprove.config import ModelConfig
    from selfimprove.models.policy import Policy

    with _model(options) as model:
        policy = Policy.load(ModelConfig.model_validate(model))
        policy.tokenizer.pad_token_id = policy.pad_id
        name = str(policy.dtype).removeprefix("torch.")
        args = argparse.Namespace(
            prompts=4 if options.quick else 64,
            runs=1 if options.quick else 3,
            peer_prompts=4 if options.quick else 8,
            peer_batch=[32] if options.quick else [64, 512],
            peers=[f"generate {name}"],
        )
        limits = {name: bench.roofline(policy.model, args.prompts * bench.SAMPLES)}
        for workload in "ab":
            figures = bench.measure(policy, workload, {name: policy.model}, limits, args)
            record({"workload": workload, "dtype": name, **figures, **_peak(options)})


def training(options: argparse.Namespace, record: Record) -> None:
    """Seconds of one epoch in each arm; the first of four runs warms up."""
    import training as bench

    runs: dict[str, list[dict[str, float]]] = {}
    arms = ["ours", "ours + KL", bench.PLAIN]
    absent = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if absent and not bench.VENV.exists():
        record({"arm": "TRL", "skipped": f"not installed: {', '.join(absent)}"})
    else:
        arms.append("TRL")
    with tempfile.TemporaryDirectory() as name, _model(options) as model:
        job = bench.encode(bench.make_problems(4 if options.quick else 64, 4), Path(name), **model)
        for arm in arms:
            try:
                warm, *rest = bench.measure(arm, Path(name), 2 if options.quick else 4)
            except RuntimeError as error:
                record({"arm": arm, "error": str(error).splitlines()[-LAST:]})
                continue
            runs[arm] = rest
            record({"arm": arm, "warm_up_seconds": warm["seconds"], "runs": rest})
    if "ours" in runs and "ours + KL" in runs and len(runs) > 2:
        text, ratios = bench.table(job, runs)
        record({"table": text.splitlines(), **ratios})


def quickstart(options: argparse.Namespace, record: Record) -> None:
    """The quickstart by the command line: its table, accuracy, seconds by stage."""
    folder = options.out / "quickstart"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with _model(options) as model:
        overrides = [f"model.{key}={value}" for key, value in model.items()]
        if options.quick:
            lines = (ROOT / "configs" / "prompts" / "everyday.jsonl").read_text().splitlines()
            (folder / "prompts.jsonl").write_text("\n".join(random.Random(0).sample(lines, 40)))
            overrides += [
                f"prompts.path={folder / 'prompts.jsonl'}",
                "embedder=hash:32",
                "rounds=1",
                "evaluate.limit=8",
            ]
        command = [sys.executable, "-m", "selfimprove", "run", str(ROOT / "configs" / "quickstart.yaml"), *overrides]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    if done.returncode:
        raise RuntimeError("\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-LAST:]))
    summary = json.loads((folder / "runs" / "quickstart" / "summary.json").read_text())
    seconds = round(time.perf_counter() - began, 1)
    table = done.stdout[done.stdout.index("held-out prompts:") :].partition("\n\n")[0].splitlines()
    record({"seconds": seconds, "table": table, **summary})


SECTIONS: dict[str, Callable[[argparse.Namespace, Record], None]] = {
    "tests": tests,
    "rollout": rollout,
    "training": training,
    "quickstart": quickstart,
}


@contextmanager
def _model(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield the settings of the model to measure; with --quick, of a tiny one."""
    if not options.quick:
        dtype = {} if options.device == "cpu" else {"dtype": "bfloat16"}
        yield {"path": MODEL, "device": options.device, **dtype}
        return
    import gpu_checks

    with tempfile.TemporaryDirectory() as name:
        folder = gpu_checks.teach_sums(Path(name))
        file = folder / "config.json"  # workload (b) is long in a tokenizer of bytes
        file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 4096}))
        yield {"path": str(folder), "device": options.device, "dtype": "float32"}


def _peak(options: argparse.Namespace) -> Row:
    from selfimprove.training.footprint import peak_gb

    return {"peak_gb": round(peak_gb(options.device), 2)}


def _last_lines(error: BaseException) -> list[str]:
    import traceback

    return "".join(traceback.format_exception(error)).strip().splitlines()[-LAST:]


def work(options: argparse.Namespace) -> None:
    """Run one section and write its rows as they come."""
    rows: list[Row] = []
    file = options.out / f"{options.section}.json"

    def record(row: Row) -> None:
        rows.append(row)
        file.write_text(json.dumps(rows))

    try:
        SECTIONS[options.section](options, record)
    except Exception as error:
        record({"error": _last_lines(error)})
        raise
    if options.section in ("tests", "rollout"):
        record(_peak(options))


# -- the parent


class Utilisation:
    """Samples of the GPU's utilisation (%) and used memory (GB), by pynvml or else nvidia-smi; none without them."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Utilisation":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        sample = _sampler()
        while sample is not None and not self._ended.wait(PERIOD):
            try:
                self.samples.append(sample())
            except (OSError, ValueError, RuntimeError, subprocess.SubprocessError):
                return

    @property
    def row(self) -> Row:
        """Mean utilisation, its mean over the samples that were busy at all, and the most memory."""
        if not self.samples:
            return {"utilisation": None}
        use = [used for used, _ in self.samples]
        busy = [used for used in use if used] or [0.0]
        return {
            "utilisation": round(sum(use) / len(use), 1),
            "utilisation_busy": round(sum(busy) / len(busy), 1),
            "memory_used_gb": round(max(memory for _, memory in self.samples), 2),
        }


def _sampler() -> Callable[[], tuple[float, float]] | None:
    """Return what reads (utilisation in %, memory in GB) of the first GPU."""
    if importlib.util.find_spec("pynvml"):
        import pynvml  # type: ignore[import-not-found, unused-ignore]  # it is there with some drivers

        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        except pynvml.NVMLError:
            return None

        def by_library() -> tuple[float, float]:
            try:
                rates, memory = pynvml.nvmlDeviceGetUtilizationRates(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError as error:  # a slice of a GPU has no rates
                raise RuntimeError(str(error)) from None
            return float(rates.gpu), memory.used / 1e9

        return by_library
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]

    def by_command() -> tuple[float, float]:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
        use, memory = done.stdout.strip().split(",")
        return float(use), float(memory) * 2**20 / 1e9

    return by_command


def environment(device: str) -> Row:
    """Device, versions and threads."""
    import peft
    import torch
    import transformers

    row: Row = {
        "device": device,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.startswith("cuda"):
        found = torch.cuda.get_device_properties(device)
        row |= {"gpu": found.name, "gpu_memory_gb": round(found.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return row


def run_section(name: str, options: argparse.Namespace) -> Row:
    """Run a section in a process of its own; past its time that is ended, and the rows so far are kept."""
    file, log = options.out / f"{name}.json", options.out / f"{name}.log"
    file.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--section", name, "--out", str(options.out), "--device", options.device]
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = os.pathsep.join([str(ROOT), *(str(Path(path).resolve()) for path in given)])  # absolute: the folder changes
    env = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    began, error = time.perf_counter(), None
    with log.open("w") as output, Utilisation() as use:
        process = subprocess.Popen(
            [*command, *(["--quick"] if options.quick else [])],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        try:
            if process.wait(options.limit.get(name)) != 0:
                error = log.read_text(errors="replace").strip().splitlines()[-LAST:]
        except subprocess.TimeoutExpired:
            error = [f"ended after {options.limit[name]} s", *log.read_text(errors="replace").splitlines()[-LAST:]]
        finally:  # whatever the section started ends with it, and with this process
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    rows = json.loads(file.read_text()) if file.is_file() else []
    if error and not any("error" in row for row in rows[-1:]):
        rows.append({"error": error})
    return {"section": name, "seconds": round(time.perf_counter() - began, 1), **use.row, "rows": rows}


def show(result: Row) -> str:
    """A few lines a section."""
    lines = [", ".join(f"{key} {value}" for key, value in result["environment"].items())]
    for section in result["sections"]:
        head = {key: value for key, value in section.items() if key not in ("section", "rows")}
        lines += ["", f"{section['section']}: " + ", ".join(f"{key} {value}" for key, value in head.items())]
        for row in section["rows"]:
            lines += _lines(row)
    return "\n".join(lines)


def _lines(row: Row) -> list[str]:
    if "error" in row:
        return [f"  FAILED {row.get('arm', '')}", *(f"    {line}" for line in row["error"])]
    if "check" in row:
        found = row["found"] if isinstance(row["found"], list) else [row["found"]]
        return [f"  {'passed' if row['passed'] else 'FAILED'} {row['check']}: {found[-1]}", *map(str, found[:-1])]
    if "table" in row:
        return [f"  {line}" for line in row["table"]]
    if "workload" in row:
        speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in row["tokens_per_second"].items())
        return [f"  ({row['workload']}) tokens/s: {speeds}; against generate {row['ratio_generate']}, roofline "
                f"{row['roofline']}, peak {row['peak_gb']} GB"]  # fmt: skip
    return ["  " + ", ".join(f"{key} {value}" for key, value in row.items() if key != "runs")]


def main() -> None:
    """Read the options and run the sections in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and the logs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between them")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few prompts: minutes on one core")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.resolve()
    if options.section:
        work(options)
        return
    chosen = options.only.split(",")
    if unknown := set(chosen) - SECTIONS.keys():
        raise SystemExit(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    from selfimprove.models.loading import pick_device

    options.device = str(pick_device(options.device))
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that run_section ends what it started
    options.limit = LIMITS if options.device.startswith("cuda") else {}
    options.out.mkdir(parents=True, exist_ok=True)
    result: Row = {"environment": environment(options.device), "quick": options.quick, "sections": []}
    for name in chosen:
        result["sections"].append(run_section(name, options))
        (options.out / "gpu.json").write_text(json.dumps(result, indent=1))
        print(f"{name}: {result['sections'][-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    print(show(result))
    failed = [
        s["section"] for s in result["sections"] if any("error" in r or r.get("passed") is False for r in s["rows"])
    ]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
