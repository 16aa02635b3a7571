"""Write docs/configuration.md from the configuration classes.

python scripts/make_reference.py
"""

from itertools import groupby
from pathlib import Path

from selfimprove.config import config_keys

HEAD = """# Configuration

Defaults < YAML file < `section.key=value` on the command line. Unknown keys are errors; every fault is in one message.
`selfimprove explain SECTION` prints the same. This page is made by `scripts/make_reference.py`; a test keeps it true.
"""


def reference() -> str:
    """Return the page: one table a section."""
    page = [HEAD]
    for section, rows in groupby(config_keys().items(), key=lambda row: row[0].rpartition(".")[0]):
        page.append(f"\n## {section or 'top level'}\n\n| key | default | meaning |\n|---|---|---|\n")
        page += [f"| `{key}` | `{default}` | {text} |\n" for key, (default, text) in rows]
    return "".join(page)


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs", "configuration.md").write_text(reference(), encoding="utf-8")
