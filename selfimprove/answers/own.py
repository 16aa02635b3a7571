"""The user's own reader: a function in a Python file of theirs, `vote.reader: path/to/file.py:function`."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from ..config_file import expanded
from ..errors import ConfigError, UserError, first_line

Function = Callable[[str, str], str | None]
"""From a response's text behind its reasoning, and its prompt, to the name of the answer's class (None: abstains)."""


@dataclass(frozen=True, slots=True)
class OwnReader:
    """A reader that the user wrote; `fingerprint` is the hash of the file, or source, that it stands in."""

    function: Function
    name: str
    fingerprint: str

    def read(self, text: str, prompt_text: str) -> str | None:
        """Return the class that the function names.

        Raises:
            UserError: it raises, or returns something else than text or None.
        """
        try:
            answer = self.function(text, prompt_text)
        except Exception as error:  # theirs, so whatever it is
            raise UserError(
                f"the reader {self.name} fails on {text[:60]!r}: {type(error).__name__}: {first_line(error)}; "
                f"correct it"
            ) from error
        if answer is not None and not isinstance(answer, str):
            raise UserError(
                f"the reader {self.name} returned {type(answer).__name__} for {text[:60]!r}; return text or None"
            )
        return answer or None


def load_reader(spec: str) -> OwnReader:
    """Load `path/to/file.py:function`. The file is run: it is the user's own code, like the configuration.

    Raises:
        ConfigError: no such file or function, or the file fails.
    """
    file, _, name = spec.rpartition(":")
    path = expanded(file)
    if not file or not name.isidentifier():
        raise ConfigError(f"vote.reader = {spec!r}: write path/to/file.py:function")
    if not path.is_file():
        raise ConfigError(f"vote.reader = {spec!r}: there is no file {path}")
    found = importlib.util.spec_from_file_location("selfimprove_own_reader", path)
    if found is None or found.loader is None:
        raise ConfigError(f"vote.reader = {spec!r}: {path} is no Python file (.py)")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # where dataclasses look for their annotations
    try:
        found.loader.exec_module(module)
    except Exception as error:  # theirs, so whatever it is
        raise ConfigError(f"vote.reader: {path} fails: {type(error).__name__}: {first_line(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"vote.reader = {spec!r}: {path} has no function {name}")
    return OwnReader(function, spec, sha256(path.read_bytes()).hexdigest())


def own_reader(function: Function) -> OwnReader:
    """Return the reader of a function that was passed in; its source is its fingerprint, where that can be had."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(type(function)))}"
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = name
    return OwnReader(function, name, sha256(source.encode()).hexdigest())
