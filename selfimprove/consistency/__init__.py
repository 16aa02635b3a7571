"""Self-consistency: read the final answers, let them vote, and select what is worth learning from."""
