"""The response memory: SQLite is the only truth, the vector index and the full-text index are caches."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .search.embedder import Embedder
    from .search.vector_index import VectorIndex
    from .store.memory import ResponseMemory
    from .store.reads import Filter

__all__ = ["Embedder", "Filter", "ResponseMemory", "VectorIndex"]

_HOMES = {
    "Embedder": "search.embedder",
    "Filter": "store.reads",
    "ResponseMemory": "store.memory",
    "VectorIndex": "search.vector_index",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: reading a memory needs neither the index nor the embedder."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
