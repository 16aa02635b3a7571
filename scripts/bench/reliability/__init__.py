"""Fault injection: runs that are killed, and disks that lose what was not synced."""
