"""Looking at a run is cheap: no library of models is imported, whatever is asked, and little CPU time is spent."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "faiss", "sentence_transformers", "datasets", "sklearn", "scipy", "pandas")
SECONDS = 1.0
"""CPU time of one command, start of the interpreter included; about 0.15 s on a fast machine."""

PROGRAM = f"""
import atexit, sys
from selfimprove.cli import main
atexit.register(lambda: print("imported:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))
main()
"""

LOOKS = [
    ("--version",),
    ("--help",),
    ("explain", "train.lr"),
    ("status", "RUN"),
    ("status", "nope"),
    ("compare", "RUN", "RUN"),
    ("memory", "RUN", "list", "--kept"),
    ("memory", "RUN", "search", "plus"),
    ("memory", "RUN", "show", "1"),
    ("memory", "RUN", "trace", "1"),
    ("memory", "RUN", "path"),
    ("memory", "RUN", "stats"),
    ("memory", "RUN", "verify"),
    ("memory", "nope", "list"),
    ("chat", "nope"),
    ("export", "nope", "out"),
    ("report", "RUN", "--out", "OUT"),
]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_looking_imports_no_model_library_and_costs_little(words, undisturbed, tmp_path):
    words = [{"RUN": str(undisturbed[0]), "OUT": str(tmp_path / "r.html")}.get(word, word) for word in words]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == (2 if "nope" in words else 0), done.stderr
    assert done.stderr.splitlines()[-1] == "imported:", "heavy modules"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


def test_the_program_would_tell():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['torch'] = sys\n" + PROGRAM, "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "imported: torch"
