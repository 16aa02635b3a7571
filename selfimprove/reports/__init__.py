"""What a run came to: table, summary, HTML report, comparison, trackers."""
