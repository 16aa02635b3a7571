"""HTTP client for JSON with retries: temporary failures are retried, other statuses are errors at once.

It uses http.client, which follows no redirects and uses no proxies: requests go to the configured address only.
"""

import http.client
import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..config_engines import ServerConfig
from ..errors import ConfigError, EngineError

log = logging.getLogger(__name__)

T = TypeVar("T")

KEY_VARIABLE = "SELFIMPROVE_SERVER_KEY"
"""Environment variable with the API key; the key is neither in a file nor on the command line."""
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of temporary failures."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 15.0
"""Exponential backoff: the wait doubles from the first to the longest."""
WARNING_INTERVAL_S = 10.0
"""Minimum time between two warnings, in seconds."""
ANSWERS_WITHIN_S = 10.0
"""Time in which a server must answer the question whether it is there."""
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Malformed(Exception):
    """A response of an unexpected form, such as truncated JSON; the request is retried."""


class Refused(EngineError):
    """Non-retryable HTTP status."""

    def __init__(self, where: str, status: int, said: str) -> None:
        super().__init__(f"{where} answered {status}: {said}")
        self.status = status


class _Retryable(Exception):
    """Retryable HTTP status; `wait` is the server's Retry-After, in seconds."""

    def __init__(self, status: int, said: str, wait: float) -> None:
        super().__init__(f"{status} {said}")
        self.wait = wait


class Client:
    """Client of one server. Thread-safe: each thread has its own connection."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        patience: float,
        key: str | None = None,
        before_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare requests to the server at `url`; nothing is sent yet.

        Args:
            url: http(s)://host:port, optionally with a path before /v1.
            timeout: maximum time of a request, in seconds.
            patience: maximum time between the first failure of a request and its last try, in seconds.
            key: API key, sent as a bearer token.
            before_retry: called before each retry, for example to restart the server.

        Raises:
            ConfigError: the address is invalid, or the key would be sent over a network unencrypted.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
        except ValueError:  # invalid port or unbalanced brackets
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
        self._before_retry = before_retry
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._closing = threading.Event()
        self._quiet_until = 0.0

    @property
    def closing(self) -> bool:
        """Whether `abort` was called; requests fail from then on."""
        return self._closing.is_set()

    def abort(self) -> None:
        """Abort the pending requests; they and all later ones fail without retries."""
        self._closing.set()
        for connection in self._connections:
            connected = connection.sock  # read once: its thread may close it at the same time
            if connected is not None:
                with suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections. No request may be pending."""
        for connection in self._connections:
            connection.close()

    def answers(self) -> bool:
        """Return whether the server responds to one request for its models."""
        try:
            self._once("GET", "/v1/models", None)
        except (OSError, http.client.HTTPException, _Retryable, Refused):
            return False
        return True

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        read: Callable[[bytes], T],
        retryable: frozenset[int] = RETRYABLE,
    ) -> T:
        """Send a request, with retries, and return `read(body of the response)`.

        `read` raises `Malformed` for a body of an unexpected form, which is retried as well.

        Raises:
            Refused: the status is neither 200 nor in `retryable`.
            EngineError: no valid response within the patience, or `abort` was called.
        """
        wait, tries, failed_since = FIRST_WAIT_S, 0, None
        while True:
            tries += 1
            try:
                return read(self._once(method, path, body, retryable))
            except (OSError, http.client.HTTPException, Malformed, _Retryable) as error:
                now = time.monotonic()
                failed_since = failed_since or now
                said = str(error) or type(error).__name__
                if now - failed_since > self._patience or self._closing.is_set():
                    raise EngineError(
                        f"{self.url}{path} gave no good answer in {tries} tries over {now - failed_since:.0f} s, "
                        f"the last time: {said}; committed work is saved: repair the server, then add --resume"
                    ) from None
                self._warn("%s%s: %s; trying again", self.url, path, said)
                closing = self._closing.wait(max(wait, getattr(error, "wait", 0.0)))
                wait = min(2 * wait, LONGEST_WAIT_S)
                if not closing:
                    self._before_retry()

    def _warn(self, message: str, *values: str) -> None:
        """Log a warning, at most once per `WARNING_INTERVAL_S`: many requests fail for the same reason."""
        now = time.monotonic()
        if now > self._quiet_until:
            self._quiet_until = now + WARNING_INTERVAL_S
            log.warning(message, *values)

    def _once(
        self, method: str, path: str, body: dict[str, Any] | None, retryable: frozenset[int] = RETRYABLE
    ) -> bytes:
        """Send a request once on this thread's connection, which is closed if it fails."""
        connection = self._connection()
        idle = connection.sock is not None
        try:
            payload = None if body is None else json.dumps(body)
            if not idle:
                connection.connect()
            if self._closing.is_set():  # checked after connect(), so that either this or abort() sees the other
                raise ConnectionAbortedError("closing")
            connection.request(method, self._parts.path.rstrip("/") + path, payload, self._headers)
            response = connection.getresponse()
            raw = response.read()
        except BaseException as error:
            connection.close()
            if idle and isinstance(error, ConnectionError) and not self._closing.is_set():
                # The server had closed the idle connection: not a failure.
                return self._once(method, path, body, retryable)
            raise
        if response.status == 200:
            return raw
        said = _message(raw)
        if response.status in retryable:
            raise _Retryable(response.status, said, _seconds(response.headers.get("Retry-After")))
        raise Refused(self.url + path, response.status, said)

    def _connection(self) -> http.client.HTTPConnection:
        """Return this thread's connection; http.client reopens it after a close."""
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


def refuse_unreachable(config: ServerConfig) -> None:
    """Raise an EngineError when no server answers at `server.url` within seconds; one that a run starts may not yet."""
    if config.command is not None:
        return
    key = os.environ.get(KEY_VARIABLE)
    with closing(Client(config.url, timeout=min(config.timeout, ANSWERS_WITHIN_S), patience=0, key=key)) as client:
        if not client.answers():
            raise EngineError(
                f"no server answers at server.url {config.url}; start it, or let the run: set server.command "
                f"(a key is read from {KEY_VARIABLE})"
            )


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a response.

    Raises:
        Malformed: the body is not a JSON object, or incomplete.
    """
    try:
        found = json.loads(raw)
    except ValueError:
        raise Malformed(f"not JSON, {len(raw)} bytes: {raw[:60].decode(errors='replace')!r}") from None
    if not isinstance(found, dict):
        raise Malformed(f"JSON {type(found).__name__} instead of an object")
    return found


def _message(raw: bytes) -> str:
    """Return the error message of a response in one line of at most 300 characters."""
    try:
        said = json.loads(raw)
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        said = raw.decode(errors="replace")
    return " ".join(str(said).split())[:300]


def _seconds(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header, at most 60; 0 if it is missing or a date."""
    return min(float(retry_after), 60.0) if retry_after and retry_after.isdigit() else 0.0
