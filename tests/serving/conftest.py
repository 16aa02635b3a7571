"""A served run and OpenAI's client of it."""

from importlib.util import find_spec

import pytest
from serving_story import serving

if find_spec("starlette") is None or find_spec("openai") is None:
    collect_ignore_glob = ["test_*.py"]  # they need selfimprove[serve] and the openai client


@pytest.fixture(scope="module")
def served(undisturbed):
    with serving(undisturbed[0]) as (address, worker):
        yield address, worker


@pytest.fixture(scope="module")
def client(served):
    from openai import OpenAI

    with OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0) as client:
        yield client
