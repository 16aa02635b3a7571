"""Make a language model better from its own history alone: no labels, no reward model, no judge, no teacher."""

__version__ = "0.1.0"
