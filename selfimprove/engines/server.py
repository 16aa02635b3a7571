"""Generation by an OpenAI-compatible server (vLLM, SGLang, llama.cpp); training stays in this process.

Token ids are sent, not text, so that one chat template decides. Requests of a unit that share their prompt are one
call for n samples, seeded by the first of them: a server's draws are not ours, so runs on a server do not repeat the
bytes of local runs (nor their own, where the server batches as requests come in), but what is committed is never asked
again, and no answer is used in part or twice.
"""

import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..config import ServerConfig
from ..errors import EngineError
from ..fsio import folder_digest
from ..models.policy import Policy
from ..training import TrainReport
from ..types import BASE, Generation, Unit
from .engine import OnStep, OnTokens, TrainingJob
from .local import LocalEngine, read_generation
from .server_client import KEY_VARIABLE, PASSING, Client, Refused, parse_object
from .server_process import ServerProcess
from .server_protocol import Call, Completion, Ends, group, read_completions, read_models, request_body

log = logging.getLogger(__name__)

AHEAD = 1
"""Units that are asked for while an earlier one is not finished: the server does not wait for the driver."""


class ServerEngine:
    """Asks a server for generations, and trains with a `LocalEngine`."""

    def __init__(self, local: LocalEngine, config: ServerConfig, *, rank: int, log_file: Path) -> None:
        """`rank` is that of the adapters to come; the output of a server started here goes to `log_file`.

        Raises:
            ConfigError: the address or the command cannot be used.
        """
        self._local = local
        self._config = config
        self._client = Client(
            config.url,
            timeout=config.timeout,
            patience=config.patience,
            key=os.environ.get(KEY_VARIABLE),
            on_trouble=self._revive,
        )
        self._process: ServerProcess | None = None
        if config.command is not None:
            self._process = ServerProcess(
                config.command, self._client, model=local.policy.folder, rank=rank, log_file=log_file
            )
        self._pool = ThreadPoolExecutor(config.concurrency, thread_name_prefix="server")
        self._naming = threading.Lock()
        self._names: dict[str, str] = {}

    def __str__(self) -> str:
        return f"server at {self._config.url}" + (", started here" if self._process else "")

    # -- the two verbs

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with its generations; the next unit is under way meanwhile.

        Raises:
            EngineError: the server refuses, or gives no good answer for as long as patience lasts.
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
        """Train an adapter in this process, with the device to itself where the server was started here."""
        self.model_here()
        return self._local.train(job, out, on_step)

    def model_here(self) -> Policy:
        """Return the model in this process; a server that was started here has ended."""
        if self._process is not None:
            self._process.stop()
            self._names.clear()
        return self._local.model_here()

    def close(self) -> None:
        """Give up requests under way and end a server that was started here."""
        self._client.break_off()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()
        if self._process is not None:
            self._process.stop()

    # -- one unit

    def _send(self, unit: Unit) -> list[tuple[Call, Future[list[Completion]]]]:
        if self._process is not None:
            self._local.policy.release()  # one device holds one model at a time
            self._process.start()
        policy = self._local.policy
        calls = group([policy.encode(r.messages, r.prefix) for r in unit.requests], [r.seed for r in unit.requests])
        self._served(unit.policy)
        ends = Ends(policy.eos_ids, policy.stop.strings if policy.stop else ())  # not in several threads at once
        try:
            return [(call, self._pool.submit(self._complete, call, unit, ends)) for call in calls]
        except RuntimeError as error:  # closed meanwhile, or the system gives no more threads
            raise EngineError(f"cannot ask {self._config.url}: {error}") from None

    def _collect(
        self, unit: Unit, calls: Sequence[tuple[Call, Future[list[Completion]]]], on_tokens: OnTokens | None
    ) -> list[Generation]:
        """Return the unit's generations as they come in. Tokenizers are not for several threads: it is used here."""
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
        """Ask for the samples of one call; a server that has forgotten the adapter is given it again."""
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
        with self._naming:
            self._names.clear()  # it was started anew since
        return ask()

    # -- adapters

    def _served(self, policy: str) -> str:
        """Return the name under which the server has a policy, loading its adapter where it is not there.

        An adapter's name says what is in it, so one that was trained anew is never taken for the one before, nor its
        cached prefixes; those of other rounds are unloaded.

        Raises:
            EngineError: the server cannot load adapters, or not this one.
        """
        with self._naming:
            if policy not in self._names:
                there = self._client.ask("GET", "/v1/models", read=read_models)
                self._names = {policy: self._base(there) if policy == BASE else self._adapter(policy, there)}
            return self._names[policy]

    def _base(self, there: Sequence[str]) -> str:
        name = self._config.model or there[0]
        if name not in there:
            raise EngineError(f"{self._config.url} has no model {name!r} (server.model); it has {', '.join(there)}")
        return name

    def _adapter(self, policy: str, there: Sequence[str]) -> str:
        folder = self._local.adapter_of(policy)
        assert folder is not None
        own = f"selfimprove-{hashlib.sha256(str(folder.resolve().parent).encode()).hexdigest()[:8]}-"
        name = f"{own}{policy}-{folder_digest(folder)[:12]}"
        if name not in there:
            self._load(name, folder)
        for other in there:
            if other.startswith(own) and other != name:
                self._unload(other)
        return name

    def _load(self, name: str, folder: Path) -> None:
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        try:
            # A 500 here is no accident of the moment: the server has adapters switched off, or cannot read this one.
            self._client.ask("POST", "/v1/load_lora_adapter", body, read=lambda raw: None, passing=PASSING - {500})
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

    def _revive(self) -> None:
        if self._process is not None:
            self._process.revive()
