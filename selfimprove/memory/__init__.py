"""The response memory: SQLite is the only truth, the vector index and the full-text index are caches."""

from .search.embedder import Embedder
from .search.vector_index import VectorIndex
from .store.memory import ResponseMemory
from .store.reads import Filter

__all__ = ["Embedder", "Filter", "ResponseMemory", "VectorIndex"]
