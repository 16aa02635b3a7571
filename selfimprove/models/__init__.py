"""Model sources, chat templates and tokenization, the attention backend."""
