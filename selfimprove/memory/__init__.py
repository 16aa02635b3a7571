"""The response memory: SQLite is the only truth, the vector index and the full-text index are caches."""

from .embed import Embedder
from .index import VectorIndex
from .reads import Filter
from .store import ResponseMemory

__all__ = ["Embedder", "Filter", "ResponseMemory", "VectorIndex"]
