"""Errors a person can act on: what happened, the value seen, what to do."""


class UserError(Exception):
    """A mistake the user can correct: shown as one line, exit code 2, never with a traceback."""


class ConfigError(UserError):
    """The configuration is wrong; the message lists every fault at once."""


class PromptError(UserError):
    """The prompt file cannot be used as it is."""


class ModelError(UserError):
    """The model, adapter or embedder cannot be loaded, or must not be."""


class MemoryError_(UserError):
    """The response memory is missing, damaged, foreign or held by another process."""


class TrainingError(UserError):
    """Training cannot go on: non-finite loss or gradient, or nothing to learn from."""


class EngineError(UserError):
    """A server or a cluster does not do its part; what is committed is safe."""


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says in an exception; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Interrupted(BaseException):
    """A first SIGINT or SIGTERM: stop at the next safe point. `signum` decides the exit code (128 + signum).

    No Exception, as little as KeyboardInterrupt is: libraries catch those while they import, and go on.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signum}")
        self.signum = signum
