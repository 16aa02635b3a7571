"""The thread that owns the model: requests join its decode batch, and leave it, between two steps."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import torch

from ..errors import UserError
from ..models.policy import Policy
from ..models.stop_strings import UNFINISHED, StopStrings
from ..rollout.compatibility import misfit
from ..rollout.continuous import OpenBatch, PackedBatch, SeparateBatch, closed_up
from ..rollout.generation import choose_rows
from ..rollout.sampling import draw
from ..seeds import seed_for
from ..types import Finish, Message, Sampling
from .protocol import RequestError

MAX_ROWS = 64
"""Rows decoded at once; further requests wait."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Began:
    """A request can be answered: tokens of its longest prompt, and the ids of the responses shown for each choice."""

    prompt_tokens: int
    recalled: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True, slots=True)
class Piece:
    """More text of one choice."""

    choice: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The whole text of one choice, and the number of its tokens."""

    choice: int
    text: str
    finish: Finish
    tokens: int


Event = Began | Piece | Ended | RequestError


@dataclass(eq=False, slots=True)
class Job:
    """One request. `emit` is called in the worker's thread.

    `new_tokens` is the limit that the client sets: it must fit; `sampling.max_new_tokens`, the usual one, is lowered.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    emit: Callable[[Event], None]
    new_tokens: int | None = None
    seed: int = 0
    choices: int = 1
    stops: tuple[str, ...] = ()
    stream: bool = False
    cancelled: bool = False
    """Set from any thread; its rows leave the batch before the next step."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a job is answered from: a conversation for each choice, the responses shown in each (None: no memory)."""

    conversations: tuple[tuple[Message, ...], ...]
    recalled: tuple[tuple[int, ...], ...] | None


@dataclass(eq=False, slots=True)
class _Row:
    job: Job
    choice: int
    prompt: list[int]
    seed: int
    sampling: Sampling
    stop: StopStrings | None
    ids: list[int] = field(default_factory=list)
    sent: str = ""


@dataclass(eq=False, slots=True)
class _Lane:
    """The rows of one batch, and the logits that their next tokens are drawn from, (R, V)."""

    batch: OpenBatch
    rows: list[_Row] = field(default_factory=list)
    logits: torch.Tensor | None = None


class Worker:
    """Answers jobs in a thread of its own: tokenizer, model, memory and index are used there alone."""

    def __init__(self, policy: Policy, prepare: Callable[[], Callable[[Job], Context]]) -> None:
        """`prepare` is called in the thread; what it returns gives each job its context, before it is admitted."""
        self.policy = policy
        self.tokens = 0
        """Tokens drawn since the start."""
        self._prepare = prepare
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: deque[tuple[Job, list[_Row]]] = deque()
        self._lanes = {True: _Lane(PackedBatch(policy.model)), False: _Lane(SeparateBatch(policy.model))}
        self._stopped = False
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def running(self) -> int:
        """Rows in the batch."""
        return sum(len(lane.rows) for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        """Requests that are not admitted yet."""
        return len(self._waiting) + self._inbox.qsize()

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; what `prepare` raises is raised here."""
        self._thread.start()
        self._ready.result()

    def submit(self, job: Job) -> None:
        """Answer a job, from any thread."""
        self._inbox.put(job)

    def stop(self) -> None:
        """End the thread after the present step; open jobs stay without an end."""
        self._stopped = True
        self._inbox.put(None)
        self._thread.join()

    # -- in the thread

    def _run(self) -> None:
        try:
            self._context = self._prepare()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        with torch.inference_mode():
            while not self._stopped:
                self._collect(block=not self.running and not self._waiting)
                for guarded in (self._drop_cancelled, self._admit, *(lambda k=k: self._step(k) for k in self._lanes)):
                    try:
                        guarded()
                    except Exception as error:
                        self._fail_all(error)

    def _collect(self, *, block: bool) -> None:
        """Move what has arrived to the waiting jobs, encoded; wait for something if there is nothing to do."""
        with suppress(Empty):
            while True:
                job = self._inbox.get(block=block)
                block = False
                if job is None or job.cancelled:
                    continue
                try:
                    self._waiting.append((job, self._rows_of(job)))
                except RequestError as refused:
                    job.emit(refused)
                except UserError as error:
                    job.emit(RequestError(400, str(error)))
                except Exception as error:
                    log.exception("a request failed")
                    job.emit(RequestError(500, f"{type(error).__name__} while the request was read; see the log"))

    def _rows_of(self, job: Job) -> list[_Row]:
        """Return a row for each choice of a job.

        Raises:
            RequestError: the conversation and its new tokens do not fit the model's positions.
        """
        policy = self.policy
        context = self._context(job)
        prompts = [policy.encode(messages) for messages in context.conversations]
        longest = max(map(len, prompts))
        limit = job.new_tokens or job.sampling.max_new_tokens
        if policy.positions is not None:
            left = policy.positions - longest
            if left < (job.new_tokens or 1):
                raise RequestError(
                    400,
                    f"the conversation has {longest} tokens and {job.new_tokens or 1} are to be new, but the model has "
                    f"{policy.positions} positions; shorten it or lower max_tokens",
                    param="messages",
                    code="context_length_exceeded",
                )
            limit = min(limit, left)
        sampling = Sampling(job.sampling.temperature, job.sampling.top_k, job.sampling.top_p, limit)
        stop = policy.stops(job.stops)
        job.emit(Began(longest, context.recalled))
        return [
            _Row(job, choice, ids, seed_for("serve", job.seed, choice), sampling, stop)
            for choice, ids in enumerate(prompts)
        ]

    def _drop_cancelled(self) -> None:
        """Remove the rows of clients that went away."""
        for lane in self._lanes.values():
            _remove(lane, {place for place, row in enumerate(lane.rows) if row.job.cancelled})
        if any(job.cancelled for job, _ in self._waiting):
            self._waiting = deque((job, rows) for job, rows in self._waiting if not job.cancelled)

    def _admit(self) -> None:
        """Prefill what waits, in order, as far as the cache has room for it; one job always has."""
        new: dict[bool, list[_Row]] = {kind: [] for kind in self._lanes}
        widest = max((_columns(row) for lane in self._lanes.values() for row in lane.rows), default=0)
        count = self.running
        while self._waiting:
            rows = self._waiting[0][1]
            widest, count = max(widest, *map(_columns, rows)), count + len(rows)
            if count > len(rows) and count > min(MAX_ROWS, choose_rows(self.policy.model, widest)):
                break
            self._waiting.popleft()
            for row in rows:
                new[not misfit(self.policy.model, _columns(row))].append(row)
        for kind, rows in new.items():
            self._lanes[kind].rows += rows  # before any pass: what fails is answered with the rest of the batch
        for kind, rows in new.items():
            if rows:
                lane = self._lanes[kind]
                logits = lane.batch.admit([row.prompt for row in rows])
                lane.logits = logits if lane.logits is None else torch.cat([lane.logits, logits])

    def _step(self, kind: bool) -> None:
        """Draw a token for each row, say what is new, remove the rows that ended, and run the model on the others."""
        lane = self._lanes[kind]
        if lane.logits is None:
            return
        tokens = _draw(lane.logits, lane.rows)
        self.tokens += len(tokens)
        gone = {
            place for place, (row, token) in enumerate(zip(lane.rows, tokens, strict=True)) if self._ends(row, token)
        }
        order = _remove(lane, gone)
        if order:
            lane.logits = lane.batch.step([tokens[place] for place in order])

    def _ends(self, row: _Row, token: int) -> bool:
        """Append a token to a row; emit its text, and whether it ends with it."""
        finish = None
        if token in self.policy.eos_ids:
            finish = Finish.STOP
        else:
            row.ids.append(token)
            if row.stop is not None and row.stop(row.ids):
                finish = Finish.STOP
            elif len(row.ids) == row.sampling.max_new_tokens:
                finish = Finish.LENGTH
        if finish is None and not row.job.stream:
            return False
        text = self.policy.read(row.ids, stop=row.stop).text
        if row.job.stream:
            shown = text if finish else certain(text, row.stop)
            if len(shown) > len(row.sent) and shown.startswith(row.sent):
                row.job.emit(Piece(row.choice, shown[len(row.sent) :]))
                row.sent = shown
        if finish is not None:
            row.job.emit(Ended(row.choice, text, finish, len(row.ids)))
        return finish is not None

    def _fail_all(self, error: Exception) -> None:
        """Answer all rows of the batch with a failure, and go on with an empty batch."""
        log.error("the batch failed", exc_info=error)
        memory = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        why = "out of memory; ask for fewer tokens or choices" if memory else f"{type(error).__name__}; see the log"
        for lane in self._lanes.values():
            for job in {row.job for row in lane.rows}:
                job.emit(RequestError(503 if memory else 500, f"the batch failed: {why}"))
            lane.rows.clear()
            lane.batch.keep([])
            lane.logits = None


def certain(text: str, stop: StopStrings | None) -> str:
    """Return the beginning of an unfinished text that later tokens cannot change.

    A part of a character, the beginning of a stop string and white space at the end are left out.
    """
    text = text.rstrip(UNFINISHED)
    strings = stop.strings if stop else ()
    longest = max((len(string) for string in strings), default=1) - 1
    held = next((n for n in range(min(longest, len(text)), 0, -1) if text.endswith(_starts(strings, n))), 0)
    return text[: len(text) - held].rstrip()


def _starts(strings: Sequence[str], length: int) -> tuple[str, ...]:
    return tuple(string[:length] for string in strings if len(string) > length)


def _columns(row: _Row) -> int:
    """Return the most tokens that a row may come to."""
    return len(row.prompt) + row.sampling.max_new_tokens


def _remove(lane: _Lane, gone: set[int]) -> list[int]:
    """Remove rows of a lane, and return the old place of each row that is left."""
    order = closed_up(len(lane.rows), gone)
    if gone:
        lane.batch.keep(order)
        lane.rows = [lane.rows[place] for place in order]
        if lane.logits is not None:
            lane.logits = lane.logits[order] if order else None
    return order


def _draw(logits: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """Return a token for each row; rows that sample alike are drawn together."""
    tokens = [0] * len(rows)
    alike: dict[tuple[float, int, float], list[int]] = {}
    for place, row in enumerate(rows):
        alike.setdefault((row.sampling.temperature, row.sampling.top_k, row.sampling.top_p), []).append(place)
    for places in alike.values():
        seeds, positions = torch.tensor(
            [(rows[place].seed, len(rows[place].ids)) for place in places], device=logits.device
        ).T
        drawn = draw(logits[places], seeds, positions, rows[places[0]].sampling)
        for place, token in zip(places, drawn.tolist(), strict=True):
            tokens[place] = token
    return tokens
