"""The ASGI application: /v1/chat/completions, /v1/models and /health, for clients on this machine alone."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..models.conversation import with_system
from ..types import Message, Sampling
from .protocol import ChatRequest, Reply, RequestError, parse
from .worker import Began, Ended, Event, Job, Piece, Worker

MAX_BODY = 1 << 20
"""Most bytes of a request."""
HOSTS = {"127.0.0.1", "localhost"}
SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class Served:
    """What is served: the run's name, its policy's, a fingerprint of both, and what requests leave open."""

    name: str
    policy: str
    fingerprint: str
    sampling: Sampling
    system: tuple[Message, ...]
    """The system messages of the run's prompts, for requests without one."""
    since: int
    """Unix time of the start."""


def make_app(worker: Worker, served: Served) -> ASGIApp:
    """Return the application; the worker must be running."""

    async def health(_: Request) -> Response:
        state = {"model": served.name, "policy": served.policy, "running": worker.running, "waiting": worker.waiting}
        return JSONResponse({"status": "ok" if worker.alive else "failed", **state}, 200 if worker.alive else 503)

    async def models(_: Request) -> Response:
        card = {"id": served.name, "object": "model", "created": served.since, "owned_by": "selfimprove"}
        return JSONResponse({"object": "list", "data": [card]})

    async def model(request: Request) -> Response:
        if request.path_params["name"] != served.name:
            raise RequestError(404, f"no model {request.path_params['name']!r}", param="model", code="model_not_found")
        return JSONResponse({"id": served.name, "object": "model", "created": served.since, "owned_by": "selfimprove"})

    async def chat(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "the body must be JSON; send content-type: application/json")
        asked = parse(await _body(request), served.name)
        return await _answer(request, asked, worker, served)

    routes = [
        Route("/health", health),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]
    handlers = {RequestError: _refusal, HTTPException: _not_found, Exception: _failure}
    return LoopbackOnly(Starlette(routes=routes, exception_handlers=handlers))


class LoopbackOnly:
    """Refuses hosts other than loopback (DNS rebinding), and requests of other pages in a browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 403, or hand the request on."""
        if scope["type"] == "http" and (why := _foreign(dict(scope["headers"]))):
            await _error(RequestError(403, why))(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _foreign(headers: dict[bytes, bytes]) -> str | None:
    """Return why a request is refused; None if it is from this machine and from no other page."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
        return f"host {host!r} is not served; use http://127.0.0.1"
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != host:
        return "requests of pages from other origins are not served"
    return None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise RequestError(413, f"the body is longer than {MAX_BODY} bytes")
    return body


async def _answer(request: Request, asked: ChatRequest, worker: Worker, served: Served) -> Response:
    """Submit a request and return its completion, or its stream; a client that goes away cancels it."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def emit(event: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(events.put_nowait, event)

    job = Job(
        messages=with_system(asked.conversation, served.system),
        sampling=asked.sampling(served.sampling),
        emit=emit,
        new_tokens=asked.new_tokens,
        seed=secrets.randbits(SEED_BITS) if asked.seed is None else asked.seed,
        choices=asked.n or 1,
        stops=asked.stops,
        stream=bool(asked.stream),
    )
    worker.submit(job)
    streaming = False
    watcher = asyncio.create_task(_cancel_when_gone(request, job, events))
    try:
        began = await events.get()
        if isinstance(began, RequestError):
            raise began
        assert isinstance(began, Began)
        reply = Reply(f"chatcmpl-{uuid4().hex}", served.name, served.fingerprint, began.prompt_tokens, began.recalled)
        if job.stream:
            streaming = True
            usage = bool(asked.stream_options and asked.stream_options.include_usage)
            return _Stream(job, _stream(reply, job, events, usage))
        ended = await _all_ended(job, events)
        answers = [(one.text, one.finish.value) for one in ended]
        return JSONResponse(reply.completion(answers, sum(one.tokens for one in ended)))
    finally:
        watcher.cancel()
        job.cancelled = not streaming


async def _cancel_when_gone(request: Request, job: Job, events: "asyncio.Queue[Event]") -> None:
    """Cancel a job when its client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancelled = True
    events.put_nowait(RequestError(499, "the client closed the connection"))


async def _all_ended(job: Job, events: "asyncio.Queue[Event]") -> list[Ended]:
    """Return the end of each choice, in order.

    Raises:
        RequestError: the batch failed.
    """
    ended: dict[int, Ended] = {}
    while len(ended) < job.choices:
        event = await events.get()
        if isinstance(event, RequestError):
            raise event
        if isinstance(event, Ended):
            ended[event.choice] = event
    return [ended[choice] for choice in range(job.choices)]


class _Stream(StreamingResponse):
    """Server-sent events; the job is cancelled when they end, however they end."""

    def __init__(self, job: Job, pieces: AsyncIterator[str]) -> None:
        super().__init__(pieces, media_type="text/event-stream")
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancelled = True


async def _stream(reply: Reply, job: Job, events: "asyncio.Queue[Event]", usage: bool) -> AsyncIterator[str]:
    """Yield server-sent events: the text of each choice as it is drawn, its end, the usage if asked for, [DONE]."""
    unfinished, tokens = job.choices, 0
    for choice in range(job.choices):
        yield _sse(reply.chunk(choice, {"role": "assistant", "content": ""}))
    while unfinished:
        event = await events.get()
        if isinstance(event, Piece):
            yield _sse(reply.chunk(event.choice, {"content": event.text}))
        elif isinstance(event, Ended):
            unfinished, tokens = unfinished - 1, tokens + event.tokens
            yield _sse(reply.chunk(event.choice, {}, event.finish.value))
        elif isinstance(event, RequestError):
            yield _sse(event.body)
            return
    if usage:
        yield _sse(reply.last_chunk(tokens))
    yield "data: [DONE]\n\n"


def _sse(data: object) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _error(error: RequestError) -> Response:
    return JSONResponse(error.body, error.status)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _error(error)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    about = (
        f"{request.method} {request.url.path}: {error.detail}; there are /v1/chat/completions, /v1/models and /health"
    )
    return _error(RequestError(error.status_code, about))


async def _failure(_: Request, error: Exception) -> Response:
    return _error(RequestError(500, f"{type(error).__name__} while the request was answered; see the log"))
