"""A server that the run starts and ends itself, so that one device can generate and train in turn."""

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

START_S = 900.0
"""Longest start: large weights, compilation."""
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""Tells vLLM, and others that listen, to report nothing to anybody, unless the user's environment says otherwise."""
LOOK_S = 0.5
"""Between two looks at a server that starts."""


class ServerProcess:
    """At most one process of the server's command; its output goes to a file."""

    def __init__(self, command: str, client: Client, *, model: Path, rank: int, log_file: Path) -> None:
        """Fill in `{model}`, `{host}`, `{port}` and `{rank}`; nothing is started yet.

        Raises:
            ConfigError: the command names something else, or the server's address is not of this machine.
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
        """Start the server unless it runs, and wait until it answers.

        Raises:
            EngineError: it ends before it answers, something else is at its address, or it takes too long.
        """
        with self._lock:
            if self._process is None:
                if self._client.answers():
                    raise EngineError(
                        f"something answers at {self._client.url} already; end it, choose another port in server.url, "
                        "or unset server.command to use what is there"
                    )
                self._launch()

    def revive(self) -> None:
        """Start the server again if it was started and has died.

        Raises:
            EngineError: it did not come up; said to all who ask, but tried once.
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
        """End the server, and wait until its memory is free."""
        with self._lock:
            if self._process is not None:
                self._end(self._process)
                self._process = None

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()  # its keeper ends it
        process.wait()

    def _launch(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("child_guard.py"), *self._command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=QUIET | os.environ | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
                start_new_session=True,
            )
        began = time.monotonic()
        while not self._client.answers():
            if self._client.closing:
                raise EngineError("the run ended while the server started")
            if self._process.poll() is not None:
                raise EngineError(
                    f"the server ended with code {self._process.returncode} before it answered; "
                    f"{self._log_file} ends: {self._last_words()}"
                )
            if time.monotonic() - began > START_S:
                raise EngineError(f"the server did not answer within {START_S:.0f} s; see {self._log_file}")
            time.sleep(LOOK_S)

    def _last_words(self) -> str:
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").split("\n")
        return " / ".join(line.strip() for line in lines if line.strip())[-300:]
