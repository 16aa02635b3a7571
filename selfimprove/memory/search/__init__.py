"""Embeddings, the FAISS index, full text: caches of what SQLite holds."""
