"""Training on a tiny Llama: what it learns, what it leaves alone, and where it stops."""

import json
import logging
import math

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, LlamaForCausalLM

from selfimprove.config import TrainConfig
from selfimprove.errors import TrainingError
from selfimprove.seeds import seed_for
from selfimprove.training import Encoded, train_adapter
from selfimprove.training.adapter import attached, save_adapter
from selfimprove.training.distributed import ALONE
from selfimprove.training.model_split import Network, split_network
from selfimprove.training.objective import Objective
from selfimprove.training.packing import split_tree
from selfimprove.training.trainer import _Loop

SPEC = TrainConfig(rank=4, alpha=8, lr=1e-2, epochs=6, batch_tokens=120, beta=0.02)


def words(length, *key):
    return tuple(seed_for(*key, i) % 250 for i in range(length))


def make_examples(prompts=6, samples=2, rejected=False):
    """Prompts with a common beginning, completions of unequal length and weight."""
    system = words(6, "system")
    return [
        Encoded(
            system + words(5 + p, "prompt", p),
            words(4 + s + p % 3, "completion", p, s),
            weight=1.0 + s,
            rejected=words(5, "rejected", p, s) if rejected else None,
        )
        for p in range(prompts)
        for s in range(samples)
    ]


EXAMPLES = make_examples()


@pytest.fixture
def model(model_folder):
    return load(model_folder)


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)


def adapter_bytes(folder):
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


def gradients(model, network, spec, examples, nudge=0.3):
    """Loss and adapter gradients of one optimizer step, with an adapter that already differs from the reference."""
    with attached(model, spec, seed=1, start=None) as policy:
        loop = _Loop(policy, network, spec, steps=1, ranks=ALONE)
        generator = torch.Generator().manual_seed(5)
        for parameter in loop.parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += nudge * noise / math.sqrt(parameter.shape[1])
        figures, _ = loop._gradients(examples, examples)
        return figures, [p.grad.clone() for p in loop.parameters]


# -- what a step computes


@pytest.mark.parametrize("method", ["sft", "preference"])
def test_sharing_a_row_changes_no_loss_and_no_gradient(model_folder, method):
    model = load(model_folder, torch.float64)
    examples = make_examples(rejected=method == "preference")
    spec = SPEC.model_copy(update={"method": method, "beta": 0.5})
    tree = split_network(model, examples, pad_id=0)
    padded = Network(model, tree.head, tree=False, pad_id=0)
    whole = Network(model, type(tree.head)(), tree=False, pad_id=0)  # logits by the model itself
    assert tree.tree
    assert tree.head.weight is not None

    expected_figures, expected = gradients(model, whole, spec, examples)
    for network in (tree, padded):
        figures, found = gradients(model, network, spec, examples)
        assert figures == pytest.approx(expected_figures)
        assert max(g.abs().max() for g in expected) > 1e-3
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("remember", [True, False])
@pytest.mark.parametrize("method", ["sft", "preference"])
def test_what_is_not_to_be_remembered_is_not_kept(model_folder, method, remember):
    model, examples = load(model_folder, torch.float32), make_examples(rejected=method == "preference")
    spec = SPEC.model_copy(update={"method": method, "beta": 0.5})
    network = split_network(model, examples, pad_id=0)
    with attached(model, spec, seed=1, start=None) as policy:
        objective = Objective(policy, network, spec, remember=remember)
        objective.row(network.pack(examples), examples, examples)
    assert set(objective.reference) == (set(examples) if remember else set())


@pytest.mark.parametrize("method", ["sft", "preference"])
def test_a_step_is_the_formula(model_folder, method):
    """One example at a time, plain log_softmax of plain logits, no packing, no cache of the reference."""
    model = load(model_folder, torch.float64)
    examples = make_examples(prompts=3, rejected=method == "preference")
    if method == "preference":
        examples[1] = Encoded(examples[1].prompt, examples[1].completion, 2.0)  # no rejected one: NLL alone
    spec = SPEC.model_copy(update={"method": method, "beta": 0.5})
    network = split_network(model, examples, pad_id=0)
    figures, _ = gradients(model, network, spec, examples)

    with attached(model, spec, seed=1, start=None) as policy, torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in (p for p in policy.parameters() if p.requires_grad):
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += 0.3 * noise / math.sqrt(parameter.shape[1])

        def log_probs(example, completion):
            ids = torch.tensor([example.prompt + completion])
            return policy(ids).logits[0, len(example.prompt) - 1 : -1].log_softmax(-1)

        def of_target(rows, completion):
            return rows[torch.arange(len(completion)), list(completion)]

        total = 0.0
        if method == "sft":
            weight = sum(e.weight * len(e.completion) for e in examples)
            tokens = sum(len(e.completion) for e in examples)
            for e in examples:
                own = log_probs(e, e.completion)
                with policy.disable_adapter():
                    ref = log_probs(e, e.completion)
                total += -e.weight * of_target(own, e.completion).sum() / weight
                total += spec.beta * (own.exp() * (own - ref)).sum() / tokens
        else:
            for e in examples:
                chosen = of_target(log_probs(e, e.completion), e.completion).sum()
                part = -chosen / len(e.completion)
                if e.rejected is not None:
                    lost = of_target(log_probs(e, e.rejected), e.rejected).sum()
                    with policy.disable_adapter():
                        chosen -= of_target(log_probs(e, e.completion), e.completion).sum()
                        lost -= of_target(log_probs(e, e.rejected), e.rejected).sum()
                    part -= torch.nn.functional.logsigmoid(spec.dpo_beta * (chosen - lost))
                total += e.weight * part / len(examples)
    assert figures["loss"] == pytest.approx(float(total))


def test_cached_reference_states_serve_another_packing(model_folder):
    model = load(model_folder, torch.float64)
    network = split_network(model, EXAMPLES, pad_id=0)
    with attached(model, SPEC, seed=0, start=None) as policy:
        objective = Objective(policy, network, SPEC)
        for members in split_tree(EXAMPLES, 60):
            row = [EXAMPLES[i] for i in members]
            objective.row(network.pack(row), row, EXAMPLES)
        packed = network.pack(EXAMPLES)
        cached = objective._reference_states(packed, EXAMPLES)
        torch.testing.assert_close(cached, network.states(packed))  # B = 0: the policy is the reference


@pytest.mark.parametrize("method", ["sft", "preference"])
def test_before_its_first_step_a_new_adapter_is_its_own_reference(model_folder, method):
    model, examples = load(model_folder, torch.bfloat16), make_examples(rejected=method == "preference")
    spec = SPEC.model_copy(update={"method": method, "beta": 0.5})
    network = split_network(model, examples, pad_id=0)
    found = []
    for unmoved in (True, False):
        with attached(model, spec, seed=1, start=None) as policy:
            objective = Objective(policy, network, spec, unmoved=unmoved)
            loss, figures = objective.row(network.pack(examples), examples, examples)
            loss.backward()
            gradients = [p.grad.clone() for p in policy.parameters() if p.requires_grad]
        found.append([loss.detach(), *figures.values(), *objective.reference.values(), *gradients])
    assert len(found[0]) == len(found[1]) > len(examples)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6 if method == "sft" else 0)


def test_the_reference_is_computed_as_soon_as_the_adapter_moves(model, tmp_path):
    runs = []
    for start in (None, tmp_path / "new"):  # an adapter that changes nothing, once as such and once as any other
        spec = SPEC.model_copy(update={"lr": 1e-2, "epochs": 1, "beta": 0.5})
        if start is not None:
            with attached(model, spec, seed=3, start=None) as policy:
                save_adapter(policy, start, None)
        runs.append(train_adapter(model, EXAMPLES, spec, seed=3, out=tmp_path / f"from {start is None}", start=start))
    assert [r["kl"] for r in runs[0].history] == pytest.approx([r["kl"] for r in runs[1].history], abs=1e-6)
    assert runs[0].history[0]["kl"] == 0 < runs[0].history[1]["kl"]


# -- what training does


def test_imitation_leaves_rejected_completions_alone(model, tmp_path, monkeypatch):
    empty = torch.empty  # memory that was used before holds anything
    monkeypatch.setattr(torch, "empty", lambda *size, **kwargs: empty(*size, **kwargs).fill_(math.nan))
    spec = SPEC.model_copy(update={"epochs": 2})
    pairs = make_examples(rejected=True)
    report = train_adapter(model, pairs, spec, seed=1, out=tmp_path / "a")
    assert math.isfinite(report.loss_last) and report.kl_last > 0


def test_it_memorises(model, tmp_path):
    report = train_adapter(
        model, EXAMPLES, SPEC.model_copy(update={"epochs": 30}), seed=0, out=tmp_path / "a", pad_id=0
    )
    assert report.loss_last < 0.5 * report.loss_first
    assert report.examples == len(EXAMPLES)
    assert report.completion_tokens == sum(len(e.completion) for e in EXAMPLES)
    assert report.trained_tokens == 30 * report.completion_tokens
    assert report.encoded_tokens < 30 * sum(e.tokens for e in EXAMPLES)
    assert len(report.history) == report.steps


def test_kl_begins_at_zero_grows_and_beta_holds_it_back(model, tmp_path):
    reports = {
        beta: train_adapter(model, EXAMPLES, SPEC.model_copy(update={"beta": beta}), seed=0, out=tmp_path / str(beta))
        for beta in (0.01, 3.0)
    }
    for report in reports.values():
        assert report.history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
        assert report.kl_last > 0.01
    assert reports[3.0].kl_last < 0.5 * reports[0.01].kl_last
    without = train_adapter(model, EXAMPLES, SPEC.model_copy(update={"beta": 0.0}), seed=0, out=tmp_path / "none")
    assert without.kl_last is None


def test_preference_raises_the_margin(model, tmp_path):
    spec = SPEC.model_copy(update={"method": "preference", "dpo_beta": 0.5})
    report = train_adapter(model, make_examples(rejected=True), spec, seed=0, out=tmp_path / "a")
    assert report.history[0]["margin"] == pytest.approx(0.0, abs=1e-4)
    assert report.history[-1]["margin"] > 1.0
    assert report.loss_last < report.loss_first


def test_the_same_arguments_give_the_same_bytes(model, tmp_path):
    torch.manual_seed(1)
    train_adapter(model, EXAMPLES, SPEC, seed=3, out=tmp_path / "a", base_name="tiny")
    torch.manual_seed(2)  # no global generator has a say
    train_adapter(model, EXAMPLES, SPEC, seed=3, out=tmp_path / "b", base_name="tiny")
    train_adapter(model, EXAMPLES, SPEC, seed=4, out=tmp_path / "c", base_name="tiny")
    assert adapter_bytes(tmp_path / "a") == adapter_bytes(tmp_path / "b")
    weights = "adapter_model.safetensors"
    assert adapter_bytes(tmp_path / "a")[weights] != adapter_bytes(tmp_path / "c")[weights]


def test_the_model_comes_back_plain_and_untouched(model, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.random.get_rng_state()
    modules = [type(m) for m in model.modules()]
    train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a")
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [type(m) for m in model.modules()] == modules
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    assert torch.equal(torch.random.get_rng_state(), generator)


# -- what is written


def test_the_adapter_reloads_in_plain_peft_and_merges_to_the_same_logits(model, model_folder, tmp_path):
    out = tmp_path / "adapter"
    train_adapter(model, EXAMPLES, SPEC, seed=0, out=out, base_name="tiny/llama")
    assert {f.name for f in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "MANIFEST.json"}
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny/llama"
    assert str(model_folder) not in (out / "adapter_config.json").read_text()
    assert "lm_head" not in config["target_modules"]

    ids = torch.tensor([EXAMPLES[0].prompt + EXAMPLES[0].completion])
    plain = model(ids).logits
    adapted = PeftModel.from_pretrained(load(model_folder), str(out)).eval()
    logits = adapted(ids).logits
    merged = adapted.merge_and_unload(safe_merge=True)
    assert isinstance(merged, LlamaForCausalLM)
    torch.testing.assert_close(merged(ids).logits, logits, atol=1e-4, rtol=1e-4)
    assert (logits - plain).abs().max() > 0.1


def test_it_goes_on_from_an_earlier_adapter_with_the_plain_model_as_reference(model, tmp_path):
    first = train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a")
    second = train_adapter(model, EXAMPLES, SPEC, seed=1, out=tmp_path / "b", start=tmp_path / "a")
    assert second.loss_first < first.history[0]["loss"]
    assert second.history[0]["kl"] > 0.01


# -- what stops it


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "no survivors to train on"),
        ([Encoded((1, 2), (), 1.0)], "example 0 has an empty completion"),
        ([Encoded((1, 2), (3,), 1.0, rejected=())], "example 0 has an empty completion"),
        ([Encoded((), (3,), 1.0)], "example 0 has an empty prompt"),
        ([Encoded((1,), (3,), 0.0)], r"example 0 has weight 0\.0"),
        ([Encoded((1,), (3,), math.nan)], "example 0 has weight nan"),
    ],
)
def test_unusable_examples_are_refused(model, tmp_path, examples, message):
    with pytest.raises(TrainingError, match=message):
        train_adapter(model, examples, SPEC, seed=0, out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_non_finite_loss_names_the_step_and_writes_nothing(model, tmp_path):
    def spoil(step, _steps, _figures):
        if step == 2:
            model.get_input_embeddings().weight.data[:] = math.nan

    with pytest.raises(TrainingError, match=r"loss is nan at step 3 of \d+; no adapter was written"):
        train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a", on_step=spoil)
    assert list(tmp_path.iterdir()) == []
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_a_non_finite_gradient_stops_too(model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(math.inf))
    with pytest.raises(TrainingError, match="gradient norm is inf at step 1"):
        train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_halves_the_rows_and_goes_on(model, tmp_path, monkeypatch, caplog):
    plain = train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a")
    pack = Network.pack

    def small_memory(self, examples):
        packed = pack(self, examples)
        if packed.encoded > 32:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return packed

    monkeypatch.setattr(Network, "pack", small_memory)
    with caplog.at_level(logging.WARNING):
        report = train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "b")
    assert "rows are now at most 32 tokens" in caplog.text
    for one, other in zip(report.history, plain.history, strict=True):
        assert one == pytest.approx(other, rel=1e-2)


def test_out_of_memory_on_one_example_is_the_end(model, tmp_path, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "row", no_memory)
    with pytest.raises(TrainingError, match=r"out of memory on a single example of up to \d+ tokens"):
        train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# -- architectures that do not fit


def test_positions_that_only_the_mask_tells_get_rows_of_their_own_and_it_says_so(tmp_path, caplog):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BloomConfig(
            vocab_size=256, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, attention_dropout=0.5
        )
        model = BloomForCausalLM(config).train()
    with caplog.at_level(logging.WARNING):
        report = train_adapter(model, EXAMPLES, SPEC, seed=0, out=tmp_path / "a")
    assert "BloomForCausalLM: a token sees more than its ancestors" in caplog.text
    assert report.history[0]["kl"] == pytest.approx(0.0, abs=1e-6)  # dropout is off
    assert report.loss_last < report.loss_first
    assert model.training


def test_a_window_shorter_than_an_example_forbids_sharing(model, caplog):
    model.config.sliding_window = 8
    with caplog.at_level(logging.WARNING):
        assert not split_network(model, EXAMPLES, pad_id=0).tree
    assert "longer than a token sees; training pads one completion a row" in caplog.text
    model.config.sliding_window = 64
    assert split_network(model, EXAMPLES, pad_id=0).tree


def test_scaled_logits_are_understood_and_stranger_ones_left_to_the_model(model, caplog, monkeypatch):
    forward = type(model).forward

    def spoilt(change):
        def call(self, *args, **kwargs):
            out = forward(self, *args, **kwargs)
            out.logits = change(out.logits)
            return out

        return call

    monkeypatch.setattr(type(model), "forward", spoilt(lambda z: z / 8))
    assert split_network(model, EXAMPLES, pad_id=0).head.scale == pytest.approx(1 / 8)
    monkeypatch.setattr(type(model), "forward", spoilt(lambda z: z.abs()))
    with caplog.at_level(logging.WARNING):
        assert split_network(model, EXAMPLES, pad_id=0).head.weight is None
    assert "logits are not a function of the last hidden states alone" in caplog.text
