"""One folder that loads anywhere, reloaded and compared."""
