"""What was sampled is what is trained on, whatever the tokenizer does at the start of a text; dates stay put."""

import copy
import datetime as dt
import re

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from selfimprove.errors import ModelError
from selfimprove.models.template import PLAIN_TEMPLATE, LeftContext, end_of_turn, plain_ids, tells_date, with_date

SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXT = [
    "The sea is wide, and an apple floats towards Paris.",
    "Name a fruit",
    *5 * ["An apple.\nThe sea is 1 2 3 4 5\n- Paris.\n\nyes"],
]
ANSWERS = ["An apple.", "the sea", "5", "- one\n- two", "Paris", "yes"]


def metaspace(scheme):
    """SentencePiece's BPE, as of Llama 2 and Mistral."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    space = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(space)
    return core, trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL + BYTES, show_progress=False)


def unigram(scheme):
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    core.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return core, trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)


def byte_level(add_prefix_space):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return core, trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )


CORES = {
    "metaspace always": (metaspace, "always"),
    "metaspace first": (metaspace, "first"),
    "metaspace never": (metaspace, "never"),
    "unigram always": (unigram, "always"),
    "unigram first": (unigram, "first"),
    "bytes": (byte_level, False),
    "bytes with a space before": (byte_level, True),
}
TURNS = "{% for m in messages %}<|{{ m['role'] }}|>NEWLINE{{ m['content'] }}{{ eos_token }}NEWLINE{% endfor %}"
TURNS += "{% if add_generation_prompt %}<|assistant|>NEWLINE{% endif %}"
TEMPLATES = {
    "a newline before the answer": TURNS.replace("NEWLINE", "\n"),
    "a control token before the answer": TURNS.replace("NEWLINE", ""),
    "plain words before the answer": PLAIN_TEMPLATE,
    "a space that the model writes": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token }}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
}


@pytest.fixture(scope="module", params=CORES)
def tokenizer(request):
    make, option = CORES[request.param]
    core, trainer = make(option)
    core.train_from_iterator(TEXT, trainer)
    names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def test_a_turn_can_end_with_a_token_that_is_not_special(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TURNS.replace("NEWLINE", "\n")
    assert end_of_turn(tokenizer, {}) == tokenizer.eos_token_id
    tokenizer.add_tokens([AddedToken("<|eot|>", special=False, normalized=False)])
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ eos_token }}", "<|eot|>")
    assert end_of_turn(tokenizer, {}) == tokenizer.convert_tokens_to_ids("<|eot|>")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("control", [True, False], ids=["control tokens", "turns in plain text"])
def test_an_answer_is_encoded_as_it_follows_its_prompt(tokenizer, template, control):
    """The tokens that the whole conversation has behind the prompt: what a model of this template samples."""
    tokenizer.chat_template = template if control else template.replace("<|", "").replace("|>", ":")
    context = LeftContext(tokenizer, {})
    asked = [{"role": "user", "content": "Name a fruit"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True)["input_ids"]
    compared = 0
    for answer in ANSWERS:
        turns = [*asked, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(answer)[0] + answer
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        if whole[: len(prompt)] != prompt:
            continue  # prompt and answer merge: no answer to this prompt has those tokens
        sampled = whole[len(prompt) :]
        assert context.encode(tokenizer.decode(sampled).strip()) == sampled, answer
        compared += 1
    assert compared > len(ANSWERS) / 2


def test_the_tokens_of_an_answer_can_differ_from_those_of_its_text_alone():
    """Or the story above would prove nothing: SentencePiece puts a space before a text."""
    core, trainer = metaspace("always")
    core.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATES["a newline before the answer"]
    behind, alone = LeftContext(tokenizer, {}).encode("An apple."), plain_ids(tokenizer, "An apple.")
    assert tokenizer.convert_ids_to_tokens(alone)[0].startswith("▁")
    assert not tokenizer.convert_ids_to_tokens(behind)[0].startswith("▁")


def test_what_merges_with_the_text_before_it_is_encoded_apart(tokenizer):
    tokenizer.chat_template = TEMPLATES["a newline before the answer"]
    ids = LeftContext(tokenizer, {}).encode("\nnew")
    assert tokenizer.decode(ids).strip() == "new"


DAY = dt.date(2026, 3, 1)


@pytest.mark.parametrize(
    ("template", "fixed"),
    [
        ("{{ strftime_now('%d %b %Y') }}", '{{ "01 Mar 2026" }}'),
        ('{% set d = strftime_now( "%Y-%m-%d" ) %}{{ d }}', '{% set d = "2026-03-01" %}{{ d }}'),
        ("{% if strftime_now is defined %}a{% endif %}", "{% if strftime_now is defined %}a{% endif %}"),
    ],
)
def test_a_date_becomes_a_literal(template, fixed):
    assert with_date(template, DAY) == fixed
    assert not tells_date(fixed)


def test_a_date_that_cannot_be_fixed_is_refused():
    with pytest.raises(ModelError, match=re.escape("computes the format of today's date")):
        with_date("{{ strftime_now('%d' + ' %b') }}", DAY)
