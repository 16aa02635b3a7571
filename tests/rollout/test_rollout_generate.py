"""Sharing, batching and leaving rows change the speed of a rollout and nothing else."""

import logging
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import VOCABULARY, prompts_that_share, reference, tiny, tokens

from selfimprove.errors import ModelError
from selfimprove.rollout import Rollout, branches, decode, generate, prefill
from selfimprove.rollout import compatibility as fit
from selfimprove.rollout import generation as entry
from selfimprove.rollout import shared_prefix as prefix
from selfimprove.types import Finish, Sampling

GREEDY = Sampling(0.0, 0, 1.0, 16)
SAMPLED = Sampling(1.0, 20, 0.95, 16)
EOS = (1, 5, 23, 40, 60, 71)
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("qwen2", "qwen3", "gemma")]
FITTING = ["llama", "gemma3", *OTHERS]


@pytest.fixture(scope="module")
def rows():
    return prompts_that_share()


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


@pytest.fixture(autouse=True)
def said(caplog):
    """A fallback must be asked for: any warning in these stories is looked at by name."""
    with caplog.at_level(logging.WARNING, logger="selfimprove"):
        yield caplog


def run(model, rows, sampling=SAMPLED, **kwargs):
    return generate(model, rows, [7919 * i for i in range(len(rows))], sampling, eos_ids=EOS, pad_id=2, **kwargs)


@pytest.mark.parametrize("family", FITTING)
def test_greedy_text_is_what_transformers_generates(family, rows, said):
    model = tiny(family)
    rollouts = run(model, rows, GREEDY)
    assert [r.token_ids for r in rollouts] == [reference(model, ids, 16, EOS) for ids in rows]
    assert not said.records
    assert {Finish.STOP, Finish.LENGTH} == {r.finish for r in rollouts}  # both endings were met


@pytest.mark.parametrize("family", FITTING)
def test_a_row_draws_the_same_tokens_alone_as_in_company(family, rows):
    model = tiny(family)
    alone = [generate(model, [ids], [7919 * i], SAMPLED, eos_ids=EOS, pad_id=2)[0] for i, ids in enumerate(rows)]
    assert run(model, rows) == alone
    assert run(model, rows, batch_size=5) == alone


def test_sharing_changes_nothing(llama, rows, monkeypatch):
    shared = run(llama, rows)
    assert any(group.shared for group in prefix.group_prompts(rows, prefix.group_cost(llama.device)))
    monkeypatch.setitem(prefix.GROUP_COST, "cpu", 10**9)
    assert not any(group.shared for group in prefix.group_prompts(rows, prefix.group_cost(llama.device)))
    assert run(llama, rows) == shared


def test_a_cache_that_grows_now_and_then_holds_what_a_roomy_one_holds(llama, rows, monkeypatch):
    roomy = run(llama, rows)
    for module in (branches, decode):
        monkeypatch.setattr(module, "GROWTH", 3)  # of 16 new tokens
    assert run(llama, rows) == roomy


def test_the_order_of_rows_does_not_matter(llama, rows):
    order = list(range(len(rows)))
    random.Random(3).shuffle(order)
    shuffled = generate(llama, [rows[i] for i in order], [7919 * i for i in order], SAMPLED, eos_ids=EOS)
    in_order = run(llama, rows)
    assert shuffled == [in_order[i] for i in order]


def test_the_same_call_gives_the_same_tokens_and_another_seed_others(llama, rows):
    assert run(llama, rows) == run(llama, rows)
    other = generate(llama, rows, [7919 * i + 1 for i in range(len(rows))], SAMPLED, eos_ids=EOS)
    assert run(llama, rows) != other


def test_tokens_come_as_often_as_the_model_says(llama):
    prompt = tokens(random.Random(5), 9)
    n, sampling = 4000, Sampling(0.8, 12, 0.9, 2)
    rollouts = generate(llama, [prompt] * n, list(range(n)), sampling, eos_ids=[])
    with torch.inference_mode():
        first = expected(llama, prompt, sampling)
        top = int(first.argmax())
        second = expected(llama, [*prompt, top], sampling)
    assert_drawn_from([r.token_ids[0] for r in rollouts], first)
    assert_drawn_from([r.token_ids[1] for r in rollouts if r.token_ids[0] == top], second)


def expected(model, ids, sampling):
    """softmax(logits / T), the top k of it, then the nucleus, by sorting."""
    p = (model(torch.tensor([ids])).logits[0, -1].double() / sampling.temperature).softmax(-1)
    order = p.argsort(descending=True)[: sampling.top_k]
    top = p[order] / p[order].sum()
    order = order[top.cumsum(0) - top < sampling.top_p]
    return torch.zeros_like(p).scatter(0, order, p[order] / p[order].sum())


def assert_drawn_from(drawn, p):
    n = len(drawn)
    frequency = torch.tensor(drawn).bincount(minlength=len(p)) / n
    assert ((frequency - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_any_of_several_ends_ends_a_row_and_is_left_out(llama, rows):
    free = generate(llama, rows, list(range(len(rows))), SAMPLED, eos_ids=[])
    assert {r.finish for r in free} == {Finish.LENGTH} and {len(r.token_ids) for r in free} == {16}
    ended = generate(llama, rows, list(range(len(rows))), SAMPLED, eos_ids=EOS)
    for whole, cut in zip(free, ended, strict=True):
        end = next((i for i, token in enumerate(whole.token_ids) if token in EOS), None)
        assert cut == Rollout(whole.token_ids[:end], Finish.LENGTH if end is None else Finish.STOP)
    assert len({whole.token_ids[len(cut.token_ids)] for whole, cut in zip(free, ended, strict=True)
                if cut.finish is Finish.STOP}) > 1  # fmt: skip


def test_each_different_history_is_computed_once_and_finished_rows_leave(llama, rows, monkeypatch):
    sizes, counted = [], []
    forward = branches.forward
    monkeypatch.setattr(branches, "forward", lambda *args: sizes.append(len(args[1])) or forward(*args))
    sharp = Sampling(0.3, 20, 0.95, 16)  # rows of one prompt begin alike, then part
    rollouts = run(llama, rows, sharp, on_tokens=counted.append)
    lengths = [len(r.token_ids) for r in rollouts]
    alive = [sum(n > step for n in lengths) for step in range(15)]
    histories = [
        {(*ids, *r.token_ids[: step + 1]) for ids, r in zip(rows, rollouts, strict=True) if len(r.token_ids) > step}
        for step in range(15)
    ]
    assert sizes == [len(different) for different in histories]
    assert sizes[0] < alive[0] and sizes[-1] < alive[0]  # both savings were met
    assert sum(counted) == sum(lengths)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.data(),
)
def test_every_child_gets_a_place_beside_its_kin(sizes, data):
    segments = prefill.make_segments(sizes, [torch.tensor(float(i)) for i in range(len(sizes))])
    sources = sorted(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=12)))
    arranged, order = branches.arrange(segments, sources)
    assert sorted(order) == list(range(len(sources)))
    for segment in arranged:
        (before,) = (s for s in segments if s.prefix is segment.prefix)
        assert all(before.start <= sources[c] < before.stop for c in order[segment.start : segment.stop])
    assert [s.start for s in arranged[1:]] == [s.stop for s in arranged[:-1]]


def test_nobody_moves_when_nobody_forks_or_leaves():
    segments = prefill.make_segments([3, 2], [None, None])
    assert branches.arrange(segments, range(5)) == (segments, [0, 1, 2, 3, 4])
    assert branches.arrange(segments, [0, 1, 2, 2, 3, 4])[1] == [0, 1, 2, 3, 5, 4]  # the fork pushes one row on


def test_each_prompt_and_each_trunk_is_computed_once(llama, monkeypatch):
    computed = []
    forward = prefill.forward
    monkeypatch.setattr(prefill, "forward", lambda *args: computed.append(len(args[1])) or forward(*args))
    fit.misfit(llama, 1)  # asked now, so that its own passes are not counted
    computed.clear()
    rng = random.Random(0)
    shots = tokens(rng, 150)
    prompts = [[*shots, 3 + i, 7, 8, 9] for i in range(6)]
    run(llama, [p for p in prompts for _ in range(4)], Sampling(1.0, 0, 1.0, 1))
    assert sum(computed) == 150 + 6 * 4


def test_what_prefixes_share_is_computed_once_too(llama, monkeypatch):
    computed = []
    forward = prefill.forward
    monkeypatch.setattr(prefill, "forward", lambda *args: computed.append(len(args[1])) or forward(*args))
    rng = random.Random(0)
    system, *shots = (tokens(rng, n) for n in (100, 60, 70, 80))
    prompts = [[*system, *demonstrations, 3 + i, 7, 8, 9] for demonstrations in shots for i in range(6)]
    fit.misfit(llama, 1)
    computed.clear()
    rollouts = run(llama, [p for p in prompts for _ in range(2)], GREEDY)
    assert computed == [100, 60 + 70 + 80, len(prompts) * 4]
    assert [r.token_ids for r in rollouts[::2]] == [reference(llama, ids, 16, EOS) for ids in prompts]


def test_a_few_long_prompts_take_no_columns_of_the_others(llama, monkeypatch):
    columns = []
    forward = branches.forward
    monkeypatch.setattr(branches, "forward", lambda *args: columns.append(args[3].own.shape[-2]) or forward(*args))
    rng = random.Random(0)
    prompts = [tokens(rng, n) for n in (150, 170, 160, *[5] * 60)]
    rollouts = run(llama, prompts, GREEDY)
    assert [r.token_ids for r in rollouts] == [reference(llama, ids, 16, EOS) for ids in prompts]
    assert set(columns) == {5 + 15}


def test_a_prompt_longer_than_one_pass_is_computed_in_several(llama, rows, monkeypatch):
    whole = run(llama, rows)
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 7)
    assert run(llama, rows) == whole


def test_running_out_of_memory_halves_the_batch_and_goes_on(llama, rows, monkeypatch, said):
    undisturbed = run(llama, rows)
    sizes = []

    def scarce(model, groups, *args, **kwargs):
        sizes.append(sum(group.rows for group in groups))
        if sizes[-1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if sizes[-1] > 12:
            raise RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
        return decode.decode_batch(model, groups, *args, **kwargs)

    monkeypatch.setattr(entry, "decode_batch", scarce)
    assert run(llama, rows) == undisturbed
    assert sizes[0] == len(rows) and max(sizes[2:]) <= len(rows) // 2
    assert f"out of memory with {len(rows)} rows: going on with {len(rows) // 2}" in said.messages


def test_other_errors_are_not_taken_for_a_lack_of_memory(llama, rows, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(entry, "decode_batch", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(llama, rows)


def test_one_row_that_does_not_fit_is_a_clear_error(llama, monkeypatch):
    def never(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(entry, "decode_batch", never)
    with pytest.raises(ModelError, match="out of memory with one row of up to 19 tokens"):
        run(llama, [[3, 4, 5]] * 3)


def test_no_rows_no_rollouts(llama):
    assert generate(llama, [], [], SAMPLED, eos_ids=EOS) == []


def test_too_long_a_row_names_the_numbers(llama):
    with pytest.raises(ModelError, match="a prompt of 500 tokens and 16 new ones make 516, but the model has 512"):
        run(llama, [[3] * 500, [3]])
    assert len(run(llama, [[3] * 496])) == 1


def test_an_empty_row_is_refused(llama):
    with pytest.raises(ModelError, match="a row has no tokens"):
        run(llama, [[3], []])


def test_the_batch_is_cut_to_the_memory_there_is(llama, monkeypatch):
    token = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size, bytes
    monkeypatch.setattr(entry.os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else 40 * token * 10)
    assert entry.choose_rows(llama, 10) == 10  # a quarter of the memory holds ten rows of ten columns
    assert entry.choose_rows(llama, 10**6) == 1


def test_the_model_is_left_as_it_was(llama, rows):
    before = llama.config._attn_implementation
    logits = llama(torch.tensor([rows[0]])).logits
    run(llama, rows)
    assert llama.config._attn_implementation == before
    assert torch.equal(llama(torch.tensor([rows[0]])).logits, logits)


def test_half_precision_stays_close_to_single(rows):
    model = tiny("llama").to(torch.bfloat16)
    for ids, rollout in zip(rows, generate(model, rows, [0] * len(rows), GREEDY, eos_ids=[]), strict=True):
        text = list(rollout.token_ids)
        with torch.inference_mode():
            logits = model(torch.tensor([ids + text])).logits[0, len(ids) - 1 : -1].float()
        chosen = logits[torch.arange(len(text)), text]
        assert (logits.max(-1).values - chosen <= 0.1 * logits.abs().max()).all()  # ties of bf16 may differ, no more


def test_vocabulary_is_covered(llama):
    """Without a cut, every token can be drawn."""
    rollouts = generate(llama, [[3, 4]] * 800, list(range(800)), Sampling(5.0, 0, 1.0, 4), eos_ids=[])
    assert len({token for r in rollouts for token in r.token_ids}) == VOCABULARY
