"""Inspection of a memory: entries, lineage, overview, and SQL in the browser."""
