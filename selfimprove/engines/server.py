"""Generation by an OpenAI-compatible server (vLLM, SGLang, llama.cpp); training stays in this process.

Prompts are sent as token ids, so that only this process applies the chat template. Requests of a unit with equal
prompts become one call for n samples with the seed of the first. Servers have their own random generators and batching,
so runs on a server reproduce neither local runs nor each other; committed units are never requested again, and no
response is used partially or twice.
"""

import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..config_engines import ServerConfig
from ..errors import EngineError
from ..fsio import folder_digest
from ..models.policy import Policy
from ..training import TrainReport
from ..types import BASE, Generation, Unit
from .engine import OnStep, OnTokens, TrainingJob
from .local import LocalEngine, encode_requests, read_generation
from .server_client import KEY_VARIABLE, RETRYABLE, Client, Refused, parse_object
from .server_process import ServerProcess
from .server_protocol import Call, Completion, Ends, group, read_completions, read_models, request_body

log = logging.getLogger(__name__)

AHEAD = 1
"""Units requested before the current one is complete, so that the server does not wait for the driver."""


class ServerEngine:
    """Generation by a server, training by a `LocalEngine`."""

    def __init__(self, local: LocalEngine, config: ServerConfig, *, rank: int, log_file: Path) -> None:
        """`rank` is the LoRA rank of the run; `log_file` gets the output of a server that is started here.

        Raises:
            ConfigError: `server.url` or `server.command` is invalid.
        """
        self._local = local
        self._config = config
        self._client = Client(
            config.url,
            timeout=config.timeout,
            patience=config.patience,
            key=os.environ.get(KEY_VARIABLE),
            before_retry=self._restart,
        )
        self._process: ServerProcess | None = None
        if config.command is not None:
            self._process = ServerProcess(
                config.command, self._client, model=local.policy.folder, rank=rank, log_file=log_file
            )
        self._pool = ThreadPoolExecutor(config.concurrency, thread_name_prefix="server")
        self._names_lock = threading.Lock()
        self._names: dict[str, str] = {}

    def __str__(self) -> str:
        return f"server at {self._config.url}" + (", started here" if self._process else "")

    # -- engine interface

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with its generations, in order; see `Engine.generate`.

        Raises:
            EngineError: the server rejected a request, or gave no valid response within `server.patience`.
        """
        waiting: deque[tuple[Unit, list[tuple[Call, Future[list[Completion]]]]]] = deque()
        try:
            for unit in units:
                waiting.append((unit, self._send(unit)))
                if len(waiting) > AHEAD:
                    yield waiting[0][0], self._collect(*waiting[0], on_tokens)
                    waiting.popleft()
            while waiting:
                yield waiting[0][0], self._collect(*waiting[0], on_tokens)
                waiting.popleft()
        finally:
            for _, calls in waiting:
                for _, future in calls:
                    future.cancel()

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train in this process; a server that was started here is stopped first. See `Engine.train`."""
        self.model_here()
        return self._local.train(job, out, on_step)

    def model_here(self) -> Policy:
        """Return the model in this process; a server that was started here is stopped first."""
        if self._process is not None:
            self._process.stop()
            self._names.clear()
        return self._local.model_here()

    def close(self) -> None:
        """Abort pending requests and stop a server that was started here."""
        self._client.abort()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()
        if self._process is not None:
            self._process.stop()

    # -- requests of a unit

    def _send(self, unit: Unit) -> list[tuple[Call, Future[list[Completion]]]]:
        if self._process is not None:
            self._local.policy.release()  # the device has room for one copy of the model
            self._process.start()
        policy = self._local.policy
        calls = group(encode_requests(policy, unit.requests), [r.seed for r in unit.requests])
        self._served(unit.policy)
        ends = Ends(policy.eos_ids, policy.stop.strings if policy.stop else ())  # not in several threads at once
        try:
            return [(call, self._pool.submit(self._complete, call, unit, ends)) for call in calls]
        except RuntimeError as error:  # the pool is closed, or no more threads can be started
            raise EngineError(f"cannot ask {self._config.url}: {error}") from None

    def _collect(
        self, unit: Unit, calls: Sequence[tuple[Call, Future[list[Completion]]]], on_tokens: OnTokens | None
    ) -> list[Generation]:
        """Wait for the calls and return the generations. The tokenizer, which is not thread-safe, is used only here."""
        policy = self._local.policy
        found: dict[int, Generation] = {}
        for call, future in calls:
            for slot, completion in zip(call.slots, future.result(), strict=True):
                prefix, text = unit.requests[slot].prefix, completion.text
                ids = policy.encode_continuation(text, prefix) if completion.ids is None else completion.ids
                found[slot] = read_generation(policy, ids, completion.finish, prefix, len(call.ids))
                if on_tokens is not None:
                    on_tokens(len(ids))
        return [found[slot] for slot in range(len(unit.requests))]

    def _complete(self, call: Call, unit: Unit, ends: Ends) -> list[Completion]:
        """Request the samples of one call; after a 404 load the adapter again: the server may have restarted."""
        body = request_body(call, unit.sampling, ends)

        def ask() -> list[Completion]:
            return self._client.ask(
                "POST",
                "/v1/completions",
                body | {"model": self._served(unit.policy)},
                read=lambda raw: read_completions(parse_object(raw), len(call.slots), ends.token_ids),
            )

        try:
            return ask()
        except Refused as refusal:
            if refusal.status != 404:
                raise
        with self._names_lock:
            self._names.clear()
        return ask()

    # -- adapters

    def _served(self, policy: str) -> str:
        """Return the served name of a policy; load its adapter if the server does not have it.

        The name contains a hash of the adapter's files, so that neither an earlier adapter of the same round nor its
        cached prefixes can be used by mistake. Adapters of other rounds of this run are unloaded.

        Raises:
            EngineError: the server does not have the base model, or cannot load the adapter.
        """
        with self._names_lock:
            if policy not in self._names:
                listed = self._client.ask("GET", "/v1/models", read=read_models)
                self._names = {policy: self._base(listed) if policy == BASE else self._adapter(policy, listed)}
            return self._names[policy]

    def _base(self, listed: Sequence[str]) -> str:
        name = self._config.model or listed[0]
        if name not in listed:
            raise EngineError(f"{self._config.url} has no model {name!r} (server.model); it has {', '.join(listed)}")
        return name

    def _adapter(self, policy: str, listed: Sequence[str]) -> str:
        folder = self._local.adapter_of(policy)
        assert folder is not None
        own = f"selfimprove-{hashlib.sha256(str(folder.resolve().parent).encode()).hexdigest()[:8]}-"
        name = f"{own}{policy}-{folder_digest(folder)[:12]}"
        if name not in listed:
            self._load(name, folder)
        for other in listed:
            if other.startswith(own) and other != name:
                self._unload(other)
        return name

    def _load(self, name: str, folder: Path) -> None:
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        try:
            # 500 is not retried here: adapters are switched off, or the server cannot read this one.
            self._client.ask("POST", "/v1/load_lora_adapter", body, read=lambda raw: None, retryable=RETRYABLE - {500})
        except Refused as refusal:
            raise EngineError(
                f"{self._config.url} cannot load the adapter {folder}: {refusal}. vLLM loads adapters when started "
                "with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-lora-rank of at least train.rank, "
                "and must see that folder; a server that cannot load any needs engine=local or engine=ray"
            ) from None
        log.info("%s: loaded %s", self._config.url, name)

    def _unload(self, name: str) -> None:
        try:
            self._client.ask("POST", "/v1/unload_lora_adapter", {"lora_name": name}, read=lambda raw: None)
        except Refused as refusal:
            log.info("%s: %s was not unloaded: %s", self._config.url, name, refusal)

    def _restart(self) -> None:
        if self._process is not None:
            self._process.restart()
