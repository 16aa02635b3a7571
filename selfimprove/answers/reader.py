"""Reader of a run: kinds, reasoning marks and the user's own reader, from the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import RunConfig
from .final import PLAIN, Thinking, final_text, shown
from .kind import Kind, kind_of
from .own import OwnReader, load_reader
from .reading import Embed, Pieces, classes


def thinking_of(config: RunConfig, *, opened: bool = False) -> Thinking:
    """Return the marks of reasoning; `opened`: the chat template opens the block in the prompt."""
    marks = config.model.template.thinking
    return Thinking(opened=opened) if marks is None else Thinking(tuple(marks), opened)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads answers as one run does; made once for it.

    Once a prompt's kind is settled, a response's class depends on its text and prompt alone; free text apart, which is
    clustered.
    """

    setting: str = "auto"
    same: float = 0.85
    thinking: Thinking = PLAIN
    embed: Embed | Pieces | None = None
    own: OwnReader | None = None

    @classmethod
    def of(
        cls,
        config: RunConfig,
        embed: Embed | Pieces | None = None,
        *,
        opened: bool = False,
        own: OwnReader | None = None,
    ) -> "Reader":
        """Return the reader that a configuration asks for; `own` goes before `vote.reader`.

        `opened`: the chat template opens the reasoning block in the prompt.

        Raises:
            ConfigError: `vote.reader` cannot be loaded.
        """
        if own is None and config.vote.reader is not None:
            own = load_reader(config.vote.reader)
        return cls(config.vote.kind, config.vote.same, thinking_of(config, opened=opened), embed, own)

    def kind(self, prompt_text: str, texts: Sequence[str]) -> Kind:
        """Return how answers to a prompt are read: as configured, or by looking at the prompt and a group of texts."""
        if self.setting != "auto":
            return Kind(self.setting)
        return kind_of(prompt_text, texts, self.thinking)

    def classes(self, prompt_text: str, texts: Sequence[str], kind: Kind) -> list[str | None]:
        """Return the class of each text's answer, None where it abstains.

        Raises:
            UserError: the user's own reader fails.
        """
        if self.own is not None:
            finals = [self.final_text(text) for text in texts]
            return [None if final is None else self.own.read(final, prompt_text) for final in finals]
        return classes(texts, kind, prompt_text, self.embed, self.same, self.thinking)

    def final_text(self, text: str) -> str | None:
        """Return what follows the reasoning of a response; None where the reasoning is unfinished."""
        return final_text(text, self.thinking)

    def shown(self, text: str) -> str:
        """Return what of a response is shown, measured and embedded: its final text, nothing where it has none."""
        return shown(text, self.thinking)

    @property
    def fingerprint(self) -> str:
        """The hash of the user's own reader; "built in" without one."""
        return "built in" if self.own is None else self.own.fingerprint
