"""Write docs/configuration.md from its classes, the schema in docs/memory.md and the metrics in docs/guard.md.

python scripts/bench/make_reference.py
"""

from itertools import groupby
from pathlib import Path

from selfimprove.config_file import config_keys, config_values
from selfimprove.evaluation.metrics import METRICS
from selfimprove.memory.store.dictionary import markdown

DOCS = Path(__file__).resolve().parents[2] / "docs"

HEAD = """# Configuration

Defaults < YAML file < `section.key=value` on the command line. Unknown keys are errors; every fault is in one message.
`selfimprove explain SECTION` prints the same. This page is made by `scripts/bench/make_reference.py`; a test keeps it
true.
"""


def reference() -> str:
    """Return the page: one table a section."""
    page, values = [HEAD], config_values()
    for section, rows in groupby(config_keys().items(), key=lambda row: row[0].rpartition(".")[0]):
        page.append(f"\n## {section or 'top level'}\n\n| key | default | values | meaning |\n|---|---|---|---|\n")
        page += [f"| `{key}` | `{default}` | {_cell(values[key])} | {_cell(text)} |\n" for key, (default, text) in rows]
    return "".join(page)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def memory_page(page: str) -> str:
    """Return docs/memory.md with the tables and views under its last heading as the code has them."""
    lead = page.partition("\n### `")[0].rstrip()
    return f"{lead}\n\n{markdown()}"


def guard_page(page: str) -> str:
    """Return docs/guard.md with its table of metrics as the code has them."""
    head, _, rest = page.partition("<!-- metrics -->\n")
    _, _, tail = rest.partition("<!-- end of metrics -->")
    table = ["| metric | definition | healthy | red flag | limit |", "|---|---|---|---|---|"]
    table += [f"| {m.name} | {m.meaning} | {m.healthy} | {m.red_flag} | {m.rule} |" for m in METRICS]
    return "\n".join([f"{head}<!-- metrics -->", *table, f"<!-- end of metrics -->{tail}"])


if __name__ == "__main__":
    (DOCS / "configuration.md").write_text(reference(), encoding="utf-8")
    memory = DOCS / "memory.md"
    memory.write_text(memory_page(memory.read_text(encoding="utf-8")), encoding="utf-8")
    guard = DOCS / "guard.md"
    guard.write_text(guard_page(guard.read_text(encoding="utf-8")), encoding="utf-8")
