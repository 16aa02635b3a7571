"""A run's current policy behind an OpenAI-compatible endpoint on loopback. Needs `selfimprove[serve]`."""
