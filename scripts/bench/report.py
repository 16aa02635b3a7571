#!/usr/bin/env python3
"""Size of a run's HTML report, and the time that headless Chromium takes to open it.

    python scripts/bench/report.py                      of a run made here, 5,000 responses of 12 and of 120 words
    python scripts/bench/report.py --run quickstart     of your own
    python scripts/bench/report.py --json

The run made here is complete (a tiny model, two rounds, all operators), so that the report has votes, verdicts and
parents; its answers are then padded to 12 or 120 words. Seconds are from the start of the browser's process to its end,
all charts drawn. They include those of an empty page, which are given too.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.tiny_runs import run_it, tiny_config
from tasks.tiny_world import teach_numbers, write_numbers

from selfimprove.fsio import write_text
from selfimprove.memory import ResponseMemory
from selfimprove.reports.html import page_data, render
from selfimprove.reports.samples import COLUMNS
from selfimprove.run.folder import run_folder

RESPONSES, WORDS, REPEATS = 5_000, (12, 120), 5


def make_run(folder: Path) -> Path:
    """Run two rounds of a tiny model with somewhat more than `RESPONSES` responses."""
    prompts, _ = write_numbers(folder)
    sample = {"k": 14, "max_new_tokens": 20, "unit_prompts": 64, "temperature": 0.9}
    run_it(tiny_config(teach_numbers(folder / "model", 0), prompts, sample=sample), folder / "run")
    return folder / "run"


def write_page(run: Path, out: Path, words: int | None) -> int:
    """Write the report of at most about `RESPONSES` responses, each of `words` words if given; return their number."""
    with ResponseMemory.open(run / "memory.db") as memory:
        data = page_data(run, memory, RESPONSES)
    if words:
        rng, text = random.Random(0), COLUMNS.index("text")
        vocabulary = Path(__file__).read_text(encoding="utf-8").split()
        for row in data["responses"]:
            row[text] += " " + " ".join(rng.choices(vocabulary, k=words - len(row[text].split())))
    write_text(out, render(data))
    return len(data["responses"])


def opening_s(page: str, folder: Path, chromium: str) -> tuple[float, str]:
    """Return the median seconds that Chromium takes to open a page and paint it, and the page as it then stands."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--window-size=1280,900", f"--screenshot={folder / 'page.png'}", "--dump-dom", page]
    times, dom = [], ""
    for _ in range(REPEATS + 1):  # the first one makes the profile
        begun = time.perf_counter()
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:]), dom


def measure(run: Path, words: int | None, folder: Path, chromium: str) -> dict[str, Any]:
    """Return one row of figures."""
    page = folder / "report.html"
    shown = write_page(run, page, words)
    seconds, dom = opening_s(page.as_uri(), folder, chromium)
    if 'data-ready="yes"' not in dom:
        raise RuntimeError("the page did not get to the end of its script")
    row = {"responses": shown, "words": words, "megabytes": page.stat().st_size / 1e6, "open_s": seconds}
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="name or folder of a run; default: one is made")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        empty_s = round(opening_s("about:blank", folder, chromium)[0], 2)
        run = run_folder(asked.run) if asked.run else make_run(folder)
        for words in (None,) if asked.run else WORDS:
            row = measure(run, words, folder, chromium) | {"empty_page_s": empty_s}
            print(json.dumps(row) if asked.json else "   ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
