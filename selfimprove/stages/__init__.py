"""The stages of a round, one file each: a stage takes what earlier stages committed, and commits what it did."""
