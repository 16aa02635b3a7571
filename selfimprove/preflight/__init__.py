"""What a run would meet, before it spends anything."""
