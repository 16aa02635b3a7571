"""`python -m selfimprove`."""

from .cli import main

main()
