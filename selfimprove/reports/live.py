"""The HTML report of a run in a browser, rendered again as the run goes on; on loopback, with the standard library."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..memory import ResponseMemory
from ..run.state import State
from .status import headline, run_status
from .stored import ACCURACY, written_ns

HOST = "127.0.0.1"
COST = 30
"""A report is rendered again after this many times the seconds that it took: some 3 % of one core."""


@dataclass
class Live:
    """The report of a run as of its last commits. `write` makes it, in a file; the page asks each two seconds."""

    folder: Path
    write: Callable[[Path], Any]
    out: Path
    version: int = 0
    """Number of the report in `out`; 0: none yet."""
    _seen: tuple[int, int] | None = None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self) -> bytes:
        """Return the report."""
        self.refresh()
        return self.out.read_bytes()

    def status(self) -> bytes:
        """Return the version and the run's status in a line, as JSON; the report is brought up to date before."""
        status = run_status(self.folder)
        self.refresh(at_once=status["state"] is not State.RUNNING)
        return json.dumps({"version": self.version, "line": headline(status), "state": status["state"]}).encode()

    def refresh(self, *, at_once: bool = False) -> None:
        """Render the report again if something was committed or audited, and if the last time is long enough ago.

        `at_once`: however short a time ago, for a run that has ended.
        """
        with self._lock:
            if self.version and time.monotonic() < self._next and not at_once:
                return
            found = _found(self.folder)
            if found == self._seen:
                return
            begun = time.monotonic()
            self.write(self.out)
            self.version, self._seen = self.version + 1, found
            self._next = time.monotonic() + COST * (time.monotonic() - begun)


def _found(folder: Path) -> tuple[int, int]:
    """Return the number of the last unit, and when the accuracy was last written (ns; 0: never)."""
    with ResponseMemory.open(folder / "memory.db") as memory:
        return memory.db.rows("SELECT coalesce(max(seq), 0) FROM units")[0][0], written_ns(folder / ACCURACY)


def page() -> bytes:
    """Return the page around the report: it shows the status, and loads the report when there is a new one."""
    html = files("selfimprove").joinpath("data", "live.html").read_text(encoding="utf-8")
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return html.replace("SCRIPT_HASH", digest).encode()


def make_server(live: Live, port: int) -> ThreadingHTTPServer:
    """Return a server of the page, the report and the status; the caller runs and closes it.

    Raises:
        UserError: the port is taken.
    """
    pages: dict[str, tuple[str, Callable[[], bytes]]] = {
        "/": ("text/html; charset=utf-8", page),
        "/report.html": ("text/html; charset=utf-8", live.report),
        "/status": ("application/json", live.status),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host, path = self.headers.get("Host", "").rpartition(":")[0], self.path.partition("?")[0]
            if host not in (HOST, "localhost") or path not in pages:
                self.send_error(403 if path in pages else 404)
                return
            kind, content = pages[path]
            try:
                body = content()
            except UserError as error:
                self.send_error(503, str(error))
                return
            self.send_response(200)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(f"cannot listen at port {port} ({error.strerror}); another: --port {port + 1}") from None
