"""Exceptions whose message the user can act on: what happened, the value seen, what to do."""


class UserError(Exception):
    """Base class: an error that the user can correct. The command line prints it in one line and exits with 2."""


class ConfigError(UserError):
    """Invalid configuration; the message lists all errors."""


class PromptError(UserError):
    """The prompts, or the audit file, cannot be used."""


class ModelError(UserError):
    """The model, adapter or embedder cannot be loaded safely."""


class MemoryError_(UserError):
    """The response memory is missing, damaged, of another kind or run, or locked by another process."""


class TrainingError(UserError):
    """Training cannot continue: the loss or a gradient is not finite, or there are no examples."""


class EngineError(UserError):
    """A server or cluster failed; committed units are not affected."""


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an exception; the name of its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Interrupted(BaseException):
    """SIGINT or SIGTERM, raised at the next safe point. The exit code is 128 + `signum`.

    A BaseException, as KeyboardInterrupt is: libraries catch every Exception during an import and continue.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signum}")
        self.signum = signum
