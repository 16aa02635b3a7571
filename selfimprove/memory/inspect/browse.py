"""A memory in the browser: Datasette on loopback, with a description of all tables and columns, and saved queries."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...errors import UserError
from ..store.dictionary import relations
from .overview import FLIPS, OPERATORS

EDGE = """SELECT round, value, bound, round(bound - value, 3) AS missing, prompt, count(*) AS responses,
  min(response_id) AS response_id, response
FROM dropped WHERE reason = 'low_agreement' GROUP BY round, prompt_id ORDER BY missing, round, prompt_id LIMIT 200"""

SEARCH = """SELECT h.id, h.round, h.origin, h.prompt, h.response, h.answer,
  round(h.share, 3) AS share, h.reason
FROM (SELECT rowid, rank FROM texts WHERE texts MATCH '"' || replace(trim(replace(:words, '"', ' ')), ' ', '" "') || '"'
      ORDER BY rank LIMIT 100) t JOIN history h ON h.id = t.rowid ORDER BY t.rank"""

QUERIES = {
    "search": (
        "Search",
        "Responses whose prompt or text has all of these words; by parts of words and by meaning, and in scripts "
        "without spaces: selfimprove memory RUN search",
        SEARCH,
    ),
    "most_flipped_prompts": ("Most flipped prompts", "Prompts whose voted answer changed most often", FLIPS),
    "survivors_by_operator": (
        "Survivors by operator",
        "What each operator wrote, and how much of it was kept",
        OPERATORS,
    ),
    "edge_of_the_threshold": (
        "Dropped at the edge of the threshold",
        "Prompts that the vote nearly agreed on, the nearest misses first",
        EDGE,
    ),
}
"""Saved queries by URL name: title, description, SQL."""

TEMPLATES = Path(__file__).parents[2] / "data"
"""Folder of the page that opens first, `database-memory.html`: Datasette finds it by the name of the database."""

SETTINGS = {"sql_time_limit_ms": "20000", "default_page_size": "50", "truncate_cells_html": "300"}


def metadata(title: str) -> dict[str, Any]:
    """Return Datasette's metadata for a memory: descriptions and saved queries."""
    described = {
        r.name: {"description": f"{r.about[0].upper()}{r.about[1:]}.", "columns": r.columns} for r in relations()
    }
    queries = {name: {"title": t, "description": about, "sql": sql} for name, (t, about, sql) in QUERIES.items()}
    return {"title": title, "databases": {"memory": {"title": title, "tables": described, "queries": queries}}}


def browse(path: Path, *, port: int, open_browser: bool) -> None:
    """Serve the memory at `path` on loopback until interrupted.

    The file is opened read-only but not as immutable: a run may be writing it, or be resumed meanwhile.

    Raises:
        UserError: Datasette is not installed, or does not start.
    """
    if importlib.util.find_spec("datasette") is None:
        raise UserError("browsing needs Datasette: pip install 'selfimprove[browse]'")
    with TemporaryDirectory() as folder:
        file = Path(folder, "metadata.json")
        file.write_text(json.dumps(metadata(f"The memory of {path.resolve().parent.name}")), encoding="utf-8")
        command = [sys.executable, "-m", "datasette", "serve", str(path), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--metadata", str(file), "--template-dir", str(TEMPLATES), *(["--open"] if open_browser else [])]
        for name, value in SETTINGS.items():
            command += ["--setting", name, value]
        try:
            status = subprocess.run(command, check=False).returncode
        except KeyboardInterrupt:
            return
    if status:
        raise UserError(f"Datasette ended with exit code {status}; is port {port} taken? another: --port {port + 1}")
