"""Label-free metrics and their limits, statistics, and accuracy against an audit file for reports."""
