import pytest
from memory_story import EMBEDDER, PROMPTS

from selfimprove.memory import ResponseMemory


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memory.db"


@pytest.fixture
def memory(path):
    with ResponseMemory.create(path) as memory:
        memory.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
        yield memory
