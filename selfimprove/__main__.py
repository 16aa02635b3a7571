"""Entry point of `python -m selfimprove`."""

from .cli import main

main()
