"""Results of a run: table, summary, HTML report, comparison, advice."""
