"""Responses by the prompt that they answer."""

from collections import defaultdict
from collections.abc import Iterable

from ..types import Response


def by_prompt(responses: Iterable[Response]) -> dict[str, list[Response]]:
    """Return the responses of each prompt, in the order given."""
    groups: dict[str, list[Response]] = defaultdict(list)
    for response in responses:
        groups[response.prompt_id].append(response)
    return groups
