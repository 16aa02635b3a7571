"""Demonstrations from the memory for a conversation that is not in it, drawn as by the recall operator."""

from collections.abc import Sequence

from ..answers import Reader
from ..config import RunConfig
from ..errors import UserError
from ..memory import Embedder, ResponseMemory
from ..memory.retrieval import Recalled, latest_pool, nearest, pool_index
from ..prompts import make_prompt
from ..stages.recall import plan_recall
from ..types import Message, Request


class Demonstrations:
    """The demonstration pool of the latest vote that has one, searched by a conversation's own vector."""

    def __init__(self, memory: ResponseMemory, config: RunConfig, *, opened: bool) -> None:
        """Load the pool, the index and the embedder; `opened` is `Policy.opens_thinking`.

        Raises:
            UserError: no vote of the run has a trusted answer.
        """
        self._config, self._embedder = config, Embedder.load(config.embedder, config.model.device)
        reader = Reader.of(config, opened=opened)
        self._trusted = latest_pool(memory, self._embedder.encode, config.propose.exemplar.trust, reader.shown)
        if not self._trusted.shown:
            raise UserError("no answer in this memory is trusted yet (propose.exemplar.trust); leave out --memory")
        self._index = pool_index(memory, self._trusted, self._embedder.encode)

    def plan(self, messages: Sequence[Message], *, k: int, seed: int) -> list[Request]:
        """Return `k` requests for a conversation, each with its own draw; [] if nothing may be shown to it.

        What is shown was asked under the same system messages. Equal seeds give equal draws.
        """
        settings = self._config.propose.exemplar
        asked = make_prompt(messages, self._config.prompts.heldout)  # its own answers are not shown
        if settings.draw == "random":
            pool = self._trusted.for_prompt(asked)
        else:
            query = self._embedder.encode([asked.conversation])
            (pool,) = nearest(self._index, self._trusted, [asked], query, settings.pool)
        return plan_recall(
            [[asked]],
            [pool],
            slots=range(k),
            shots=settings.shots,
            seed_key=(self._config.seed, "serve", seed),
            distinct=settings.draw == "distinct",
        )

    def shown(self, request: Request) -> list[Recalled]:
        """Return the responses that a request shows."""
        return [self._trusted.shown[id_] for id_ in request.parents]
