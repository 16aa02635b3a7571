"""JSON over HTTP with patience: what may pass is tried again, what cannot is said at once.

The standard library's client is used as it is: it follows no redirect and asks no proxy, so what is sent goes where
the address says and nowhere else.
"""

import http.client
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import ConfigError, EngineError

log = logging.getLogger(__name__)

T = TypeVar("T")

KEY_VARIABLE = "SELFIMPROVE_SERVER_KEY"
"""Where a server's key is: in no file and on no command line."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be different next time."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 15.0
"""Waits between tries double from the first to the longest."""
QUIET_S = 10.0
"""Between two warnings."""
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Malformed(Exception):
    """An answer that is not what was asked for, such as truncated JSON: asked again, never used in part."""


class Refused(EngineError):
    """The server's no: a status that asking again cannot change."""

    def __init__(self, where: str, status: int, said: str) -> None:
        super().__init__(f"{where} answered {status}: {said}")
        self.status = status


class _Busy(Exception):
    """A status that may pass; `wait` is the server's own idea of how long, in seconds."""

    def __init__(self, status: int, said: str, wait: float) -> None:
        super().__init__(f"{status} {said}")
        self.wait = wait


class Client:
    """One server, asked from several threads; each keeps a connection of its own."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        patience: float,
        key: str | None = None,
        on_trouble: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to ask the server at `url`; nothing is sent yet.

        Args:
            url: http(s)://host:port, perhaps with a path before /v1.
            timeout: seconds that one answer may take.
            patience: seconds from a request's first failure until it is given up.
            key: sent as a bearer token.
            on_trouble: called before a request is tried again; may bring the server back.

        Raises:
            ConfigError: the address cannot be used, or would carry the key over a network in the open.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
        except ValueError:  # no number for a port, brackets that do not close
            usable = False
        if not usable:
            raise ConfigError(f"server.url {url!r} is not of the form http://HOST:PORT")
        if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigError(f"the server's key would go over the network unencrypted; make server.url {url!r} https")
        self.url = url
        self._parts = parts
        self._timeout = timeout
        self._patience = patience
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._on_trouble = on_trouble
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._closing = threading.Event()
        self._quiet_until = 0.0

    @property
    def closing(self) -> bool:
        """Whether requests were broken off: none is answered any more."""
        return self._closing.is_set()

    def break_off(self) -> None:
        """End the requests under way, and let none be tried again: they fail at once."""
        self._closing.set()
        for connection in self._connections:
            connected = connection.sock  # its own thread may close it meanwhile
            if connected is not None:
                with suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections; no request may be under way."""
        for connection in self._connections:
            connection.close()

    def answers(self) -> bool:
        """Return whether the server lists its models, asked once."""
        try:
            self._once("GET", "/v1/models", None)
        except (OSError, http.client.HTTPException, _Busy, Refused):
            return False
        return True

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        read: Callable[[bytes], T],
        passing: frozenset[int] = PASSING,
    ) -> T:
        """Return what `read` makes of the answer's body; `read` raises `Malformed` where it is not as it should be.

        Raises:
            Refused: the server said no.
            EngineError: there was no good answer for as long as patience lasts.
        """
        wait, tries, failed_since = FIRST_WAIT_S, 0, None
        while True:
            tries += 1
            try:
                return read(self._once(method, path, body, passing))
            except (OSError, http.client.HTTPException, Malformed, _Busy) as error:
                now = time.monotonic()
                failed_since = failed_since or now
                said = str(error) or type(error).__name__
                if now - failed_since > self._patience or self._closing.is_set():
                    raise EngineError(
                        f"{self.url}{path} gave no good answer in {tries} tries over {now - failed_since:.0f} s, "
                        f"the last time: {said}; what is committed is saved: mend the server and add --resume"
                    ) from None
                self._tell("%s%s: %s; trying again", self.url, path, said)
                closing = self._closing.wait(max(wait, getattr(error, "wait", 0.0)))
                wait = min(2 * wait, LONGEST_WAIT_S)
                if not closing:
                    self._on_trouble()

    def _tell(self, message: str, *values: str) -> None:
        """Warn, but not once for each of many requests that meet the same trouble."""
        now = time.monotonic()
        if now > self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.warning(message, *values)

    def _once(self, method: str, path: str, body: dict[str, Any] | None, passing: frozenset[int] = PASSING) -> bytes:
        """Ask once, on this thread's connection; one that failed is not used again."""
        connection = self._connection()
        idle = connection.sock is not None
        try:
            payload = None if body is None else json.dumps(body)
            if not idle:
                connection.connect()
            if self._closing.is_set():  # asked after the socket is there, so that break_off sees it or is seen
                raise ConnectionAbortedError("closing")
            connection.request(method, self._parts.path.rstrip("/") + path, payload, self._headers)
            response = connection.getresponse()
            raw = response.read()
        except BaseException as error:
            connection.close()
            if idle and isinstance(error, ConnectionError) and not self._closing.is_set():
                # The server had closed it while nothing was asked: no trouble.
                return self._once(method, path, body, passing)
            raise
        if response.status == 200:
            return raw
        said = _message(raw)
        if response.status in passing:
            raise _Busy(response.status, said, _seconds(response.headers.get("Retry-After")))
        raise Refused(self.url + path, response.status, said)

    def _connection(self) -> http.client.HTTPConnection:
        """Return this thread's connection; http.client opens it again by itself after a close."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host, port = str(self._parts.hostname), self._parts.port
            if self._parts.scheme == "https":
                tls = ssl.create_default_context()
                connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=tls)
            else:
                connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
            self._local.connection = connection
            self._connections.append(connection)
        return connection


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer.

    Raises:
        Malformed: there is none, or not all of it.
    """
    try:
        found = json.loads(raw)
    except ValueError:
        raise Malformed(f"no JSON, {len(raw)} bytes: {raw[:60].decode(errors='replace')!r}") from None
    if not isinstance(found, dict):
        raise Malformed(f"JSON, but {type(found).__name__} where an object was expected")
    return found


def _message(raw: bytes) -> str:
    """Return what a refusal says, one line, shortened."""
    try:
        said = json.loads(raw)
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        said = raw.decode(errors="replace")
    return " ".join(str(said).split())[:300]


def _seconds(retry_after: str | None) -> float:
    """Return the server's wait, 0 where it names none (or a date), at most a minute."""
    return min(float(retry_after), 60.0) if retry_after and retry_after.isdigit() else 0.0
