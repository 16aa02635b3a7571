"""Export to Lance, and search there."""
