"""Stop strings: text that ends an answer, found while its tokens are drawn."""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""Decoded form of a token that holds only a part of a character."""


class StopStrings:
    """Tests whether the tokens drawn so far hold a stop string.

    Only a token that can complete one causes the answer to be decoded, so the test is a look-up for nearly every token.
    """

    def __init__(self, strings: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        """`strings` are not empty; `decode` turns tokens into text."""
        self.strings = tuple(strings)
        self._decode = decode
        self._last = {UNFINISHED, *(string[-1] for string in strings)}
        self._completes: dict[int, bool] = {}

    def __call__(self, ids: Sequence[int]) -> bool:
        """Return whether the answer `ids`, at least one token, holds a stop string that its last token completes."""
        token = ids[-1]
        if token not in self._completes:
            self._completes[token] = not self._last.isdisjoint(self._decode([token]))
        return self._completes[token] and self.find(self._decode(ids)) is not None

    def find(self, text: str) -> int | None:
        """Return where the first stop string in `text` begins."""
        return min((at for at in map(text.find, self.strings) if at >= 0), default=None)
