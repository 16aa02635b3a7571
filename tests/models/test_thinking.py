"""Models that reason: template arguments, marks that are control tokens, and templates that open the block."""

import json
import shutil

import pytest
from tasks.tiny import CHAT_TEMPLATE, exactly

from selfimprove.answers import Reader
from selfimprove.config import RunConfig
from selfimprove.models.policy import Policy
from selfimprove.types import Message

ASKED = [Message("user", "hi")]
OPENING = CHAT_TEMPLATE + "{% if add_generation_prompt and enable_thinking is not defined %}<think>{% endif %}"


@pytest.fixture
def thinking(model_folder, tmp_path):
    """A copy of the tiny model whose template opens the block, and whose marks are control tokens."""
    folder = shutil.copytree(model_folder, tmp_path / "m")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    (folder / "chat_template.jinja").write_text(OPENING, encoding="utf-8")
    settings.pop("chat_template", None)
    file.write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_a_template_that_opens_the_block_is_noticed(thinking):
    policy = Policy.load(exactly(thinking))
    assert policy.opens_thinking
    reader = Reader.of(RunConfig.model_validate({"prompts": {"path": "-"}}), opened=policy.opens_thinking)
    assert reader.final_text("still at it") is None
    assert reader.final_text("done</think>4") == "4"


def test_template_arguments_reach_the_template(thinking):
    settings = exactly(thinking)
    plain = Policy.load(settings)
    off = Policy.load(
        settings.model_copy(
            update={"template": settings.template.model_copy(update={"arguments": {"enable_thinking": False}})}
        )
    )
    assert not off.opens_thinking
    assert plain.encode(ASKED) == off.encode(ASKED) + plain.plain("<think>")


def test_marks_that_are_control_tokens_are_kept_in_the_text(thinking):
    policy = Policy.load(exactly(thinking))
    policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids = policy.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    spoken = [ids[0], *policy.plain("Lyon? "), ids[1], *policy.plain("Paris"), policy.end_of_turn]
    assert policy.decode(spoken) == "<think>Lyon? </think>Paris"
