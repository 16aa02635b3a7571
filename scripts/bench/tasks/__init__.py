"""The tasks of the benches: prompts, their answers, and the tiny models that some of them are asked of."""
