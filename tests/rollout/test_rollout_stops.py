"""A stop string ends a row where it is complete, on both paths, and changes no other row."""

import pytest
from tiny_models import prompts_that_share, tiny

from selfimprove.models.stop_strings import StopStrings
from selfimprove.rollout import generate
from selfimprove.types import Finish, Sampling

EOS = (1, 5, 23)
SAMPLED = Sampling(1.0, 20, 0.95, 24)


def decode(ids):
    """A text of one letter a token, so that some text is drawn often enough to stop at."""
    return "".join("abcdefgh"[token % 8] for token in ids)


def rollouts(model, stop):
    rows = prompts_that_share()
    seeds = [7919 * i for i in range(len(rows))]
    return generate(model, rows, seeds, SAMPLED, eos_ids=EOS, pad_id=2, stop=stop)


@pytest.mark.parametrize("family", ["llama", "gemma2"], ids=["packed", "fallback"])
def test_a_row_ends_with_its_stop_string(family):
    model, stop = tiny(family), StopStrings(["ab", "hc"], decode)
    stopped = 0
    for free, ended in zip(rollouts(model, None), rollouts(model, stop), strict=True):
        at = stop.find(decode(free.token_ids))
        if at is None:
            assert ended == free
        else:
            assert ended.token_ids == free.token_ids[: at + 2]
            assert ended.finish is Finish.STOP
            stopped += 1
    assert 3 < stopped < len(prompts_that_share())


def test_a_stop_string_in_the_last_token_is_a_stop():
    model = tiny("llama")
    prompt = prompts_that_share()[:1]
    free = generate(model, prompt, [0], Sampling(1.0, 20, 1.0, 4), eos_ids=[])[0]
    end = decode(free.token_ids)[-1]
    stop = StopStrings([decode(free.token_ids)[-2:]], decode)
    ended = generate(model, prompt, [0], Sampling(1.0, 20, 1.0, 4), eos_ids=[], stop=stop)[0]
    assert (decode(ended.token_ids)[-1], ended.finish) == (end, Finish.STOP)
