"""Label-free metrics and limits, statistics, and audited accuracy for reports."""
