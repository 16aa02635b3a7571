"""Label-free self-improvement of a language model from its own responses: no labels, reward model, judge or teacher.

>>> from selfimprove import improve, ResponseMemory, export   # doctest: +SKIP
>>> summary = improve("configs/quickstart.yaml", "name=mine")  # doctest: +SKIP
>>> export("runs/mine", "out")                                 # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ResponseMemory", "export", "improve"]

if TYPE_CHECKING:
    from .api import export, improve
    from .memory import ResponseMemory

_HOMES = {"improve": "api", "export": "api", "ResponseMemory": "memory"}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, which keeps `import selfimprove` fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
