import pytest
import torch
from tiny import exactly

from selfimprove.policy import Policy
from selfimprove.scoring import human_text, kl_to_base, nll


@pytest.fixture(scope="module")
def policy(taught_folder):
    return Policy.load(exactly(taught_folder))


def test_kl_equals_brute_force_and_is_zero_for_the_base(policy, undisturbed):
    adapter = undisturbed[0] / "adapters" / "r0002"
    pairs = [(policy.plain(f"question {i}" + "?" * i), policy.plain(f"answer {i}")) for i in range(20)]
    total = count = 0
    for prompt, completion in pairs:
        ids = torch.tensor([prompt + completion])
        log_probs = []
        for name in (None, adapter):
            policy.use(name)
            with torch.inference_mode():
                log_probs.append(policy.model(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1))
        base, ours = log_probs
        total += float((ours.exp() * (ours - base)).sum())
        count += len(completion)
    assert kl_to_base(policy, adapter, pairs) == pytest.approx(total / count, rel=1e-4)
    assert total > 0


def test_nll_is_that_of_transformers(policy):
    policy.use(None)
    ids = torch.tensor([policy.plain("two plus two")])
    with torch.inference_mode():
        loss = policy.model(ids, labels=ids).loss
    assert nll(policy, "two plus two") == pytest.approx(float(loss), rel=1e-5)
    assert len(human_text().split()) > 80
