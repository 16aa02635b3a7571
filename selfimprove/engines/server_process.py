"""A server process that the run starts and stops, so that generation and training can share one device."""

import logging
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigError, EngineError
from .server_client import LOOPBACK, Client

log = logging.getLogger(__name__)

START_TIMEOUT_S = 900.0
"""Maximum time until a started server responds, in seconds; loading and compiling can take minutes."""
NO_TELEMETRY = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""Environment that switches telemetry off; the user's environment takes precedence."""
POLL_S = 0.5
"""Interval of the checks whether a started server responds, in seconds."""


class ServerProcess:
    """The process of `server.command`, at most one; its output is appended to a file."""

    def __init__(self, command: str, client: Client, *, model: Path, rank: int, log_file: Path) -> None:
        """Replace `{model}`, `{host}`, `{port}` and `{rank}` in `command`; nothing is started yet.

        Raises:
            ConfigError: the command has other placeholders, or the server's address is not on this machine.
        """
        where = urlsplit(client.url)
        if where.hostname not in LOOPBACK:
            raise ConfigError(f"server.command starts a server here, but server.url {client.url!r} is elsewhere")
        blanks = {"model": model, "host": where.hostname, "port": where.port or 80, "rank": rank}
        try:
            self._command = [part.format(**blanks) for part in shlex.split(command)]
        except (KeyError, ValueError, IndexError):
            raise ConfigError(
                f"server.command {command!r}: only {{model}}, {{host}}, {{port}} and {{rank}} can be filled in"
            ) from None
        self._client = client
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._failed: str | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the server if it is not running, and wait until it responds.

        Raises:
            EngineError: it ended before it responded, another server has its address, or the start took too long.
        """
        with self._lock:
            if self._process is None:
                if self._client.answers():
                    raise EngineError(
                        f"something answers at {self._client.url} already; end it, choose another port in server.url, "
                        "or unset server.command to use what is there"
                    )
                self._launch()

    def restart(self) -> None:
        """Restart the server if it was started and has died.

        Raises:
            EngineError: the restart failed; it is tried once, and later calls raise the same error.
        """
        with self._lock:
            if self._failed is not None:
                raise EngineError(self._failed)
            if self._process is not None and self._process.poll() is not None:
                log.warning("the server ended with code %s; starting it again", self._process.returncode)
                self._end(self._process)
                try:
                    self._launch()
                except EngineError as error:
                    self._failed = str(error)
                    raise

    def stop(self) -> None:
        """Stop the server and wait for its end, which frees its memory."""
        with self._lock:
            if self._process is not None:
                self._end(self._process)
                self._process = None

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()  # child_guard then ends it
        process.wait()

    def _launch(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("child_guard.py"), *self._command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=NO_TELEMETRY | os.environ | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
                start_new_session=True,
            )
        began = time.monotonic()
        while not self._client.answers():
            if self._client.closing:
                raise EngineError("the run was ended while the server was starting")
            if self._process.poll() is not None:
                raise EngineError(
                    f"the server ended with code {self._process.returncode} before it answered; "
                    f"{self._log_file} ends: {self._log_tail()}"
                )
            if time.monotonic() - began > START_TIMEOUT_S:
                raise EngineError(f"the server did not answer within {START_TIMEOUT_S:.0f} s; see {self._log_file}")
            time.sleep(POLL_S)

    def _log_tail(self) -> str:
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").split("\n")
        return " / ".join(line.strip() for line in lines if line.strip())[-300:]
