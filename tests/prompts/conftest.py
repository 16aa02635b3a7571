"""Prompt files written and read back."""

import json

import pytest

from selfimprove.config import PromptsConfig
from selfimprove.prompts import load_prompts


@pytest.fixture
def load(tmp_path):
    """Write rows as JSON lines (or bytes as they are) and load them."""

    def load(content, name="p.jsonl", **settings):
        if not isinstance(content, bytes):
            content = "".join(json.dumps(row) + "\n" for row in content).encode()
        (tmp_path / name).write_bytes(content)
        return load_prompts(PromptsConfig(path=str(tmp_path / name), **{"heldout": 0, **settings}))

    return load


@pytest.fixture
def asked(load):
    """Load and return what each prompt asks: a text, or (role, text) pairs where there is more than a user turn."""

    def asked(content, name="p.jsonl", **settings):
        conversations = [[(m.role, m.content) for m in p.messages] for p in load(content, name, **settings).prompts]
        return [turns[0][1] if len(turns) == 1 else turns for turns in conversations]

    return asked
