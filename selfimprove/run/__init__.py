"""A run's folder and lock, validation, progress, trackers."""
