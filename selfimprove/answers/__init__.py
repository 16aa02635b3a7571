"""Reading answers: the kind of answer that a prompt asks for, and the class of each response's answer."""

from .final import PLAIN, Thinking, final_text
from .kind import Kind, kind_of
from .reading import classes, extract

__all__ = ["PLAIN", "Kind", "Thinking", "classes", "extract", "final_text", "kind_of"]
