"""Reading answers: the kind of answer that a prompt asks for, and the class of each response's answer."""

from .choice import offers_options
from .final import PLAIN, Thinking, final_text, shown
from .kind import Kind, kind_of
from .own import OwnReader, load_reader, own_reader
from .reader import Reader, thinking_of
from .reading import classes, extract
from .text import request

__all__ = [
    "PLAIN",
    "Kind",
    "OwnReader",
    "Reader",
    "Thinking",
    "classes",
    "extract",
    "final_text",
    "kind_of",
    "load_reader",
    "offers_options",
    "own_reader",
    "request",
    "shown",
    "thinking_of",
]
