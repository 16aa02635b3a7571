"""Where models come from, how messages become tokens, the attention backend."""
