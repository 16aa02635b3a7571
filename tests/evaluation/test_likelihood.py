import pytest
import torch
from peft import LoraConfig, get_peft_model
from tasks.tiny import byte_tokenizer, exactly, save
from transformers import GraniteConfig, GraniteForCausalLM

from selfimprove.evaluation.likelihood import kl_to_base
from selfimprove.models.policy import Policy


@pytest.fixture(scope="module")
def policy(taught_folder):
    return Policy.load(exactly(taught_folder))


def questions(policy):
    return [(policy.plain(f"question {i}" + "?" * i), policy.plain(f"answer {i}")) for i in range(20)]


def brute_force(policy, adapter, pairs):
    """One pair at a time, from the whole model's own logits."""
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
    return total / count


def test_kl_equals_brute_force(policy, undisturbed):
    adapter = undisturbed[0] / "adapters" / "r0002"
    kl = kl_to_base(policy, adapter, questions(policy))
    assert kl == pytest.approx(brute_force(policy, adapter, questions(policy)), rel=1e-4)
    assert kl > 0


@pytest.fixture(scope="module")
def granite(tmp_path_factory):
    """A tiny model that divides its logits by 8, and an adapter of it: (policy, adapter folder)."""
    tokenizer, folder = byte_tokenizer(), tmp_path_factory.mktemp("granite")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GraniteForCausalLM(
            GraniteConfig(vocab_size=len(tokenizer), logits_scaling=8.0, initializer_range=0.3, **sizes)
        )
        save(folder / "model", model, tokenizer)
        adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(folder / "adapter")
    return Policy.load(exactly(folder / "model")), folder / "adapter"


def test_kl_knows_that_some_models_scale_their_logits(granite):
    assert kl_to_base(*granite, questions(granite[0])) == pytest.approx(
        brute_force(*granite, questions(granite[0])), rel=1e-4
    )


def test_kl_takes_logits_from_the_model_where_states_do_not_give_them(granite, monkeypatch):
    forward = GraniteForCausalLM.forward

    def bent(self, *args, **kwargs):
        out = forward(self, *args, **kwargs)
        out.logits = out.logits.abs()
        return out

    monkeypatch.setattr(GraniteForCausalLM, "forward", bent)
    assert kl_to_base(*granite, questions(granite[0])) == pytest.approx(
        brute_force(*granite, questions(granite[0])), rel=1e-4
    )
