"""Reading code: compared as text, white space apart, and never executed."""

import re
from textwrap import dedent

from .text import bounded

_BLOCK = re.compile(r"```[\w+#.-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.S)
_INLINE = re.compile(r"(?<!`)`([^`\n]{1,400})`(?!`)")


def read(text: str) -> str | None:
    """Return the code of a response, normalised: its blocks, or its only code span, or all of it.

    Line ends, trailing space, blank lines, tabs and a common indentation do not count; everything else does.
    """
    text = bounded(text.replace("\r\n", "\n"))
    if blocks := _BLOCK.findall(text):
        code = "\n".join(blocks)
    elif len(spans := set(_INLINE.findall(text))) == 1:
        code = spans.pop()
    else:
        code = text
    lines = [line.rstrip() for line in dedent(code.expandtabs(4)).splitlines()]
    return "\n".join(line for line in lines if line) or None
