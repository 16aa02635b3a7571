"""The option --json of the fault injection: figures as one JSON line, printed last."""

import json
from pathlib import Path
from typing import Any

JSON: dict[str, Any] = {
    "nargs": "?",
    "const": "",
    "metavar": "FILE",
    "help": "print the figures as one JSON line last, and write it to FILE if one is given",
}
"""Keywords for argparse: the value is None without the option, "" with it alone, else the file."""


def tell(figures: dict[str, Any], asked: str | None) -> None:
    """Print the figures, and write them to the file that the option names."""
    if asked is None:
        return
    line = json.dumps(figures)
    if asked:
        Path(asked).write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)
