"""Datasets by id: read from the cache or a folder, and one quick line where the hub cannot be reached."""

import time

import pytest

from selfimprove.config import PromptsConfig
from selfimprove.errors import PromptError
from selfimprove.prompts import hub, load_prompts


@pytest.fixture
def online(monkeypatch):
    """Undo what tests/conftest.py sets; nothing is reached all the same, because the hub has a stand-in's address."""
    import datasets.config
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens


def refusal(path):
    with pytest.raises(PromptError) as told:
        load_prompts(PromptsConfig(path=path))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_where_the_hub_cannot_be_reached_one_line_says_so_at_once(online):
    began = time.monotonic()
    said = refusal("hf:nobody/nothing:main")
    assert time.monotonic() - began < hub.PATIENCE + 5  # its client retries for 23 s
    assert "cannot load the dataset nobody/nothing: offline, and it is not in the cache" in said
    assert "hf download nobody/nothing --repo-type dataset --local-dir DIR" in said


def test_offline_by_choice_says_the_same():
    for path in ("hf:nobody/nothing", "hf://datasets/nobody/nothing"):
        assert "cannot load the dataset nobody/nothing: offline, and it is not in the cache" in refusal(path)


def test_the_cache_is_looked_into_while_offline_and_settings_are_put_back(online, monkeypatch):
    import datasets
    from huggingface_hub import constants

    seen = []

    def load_dataset(name, config, split):
        seen.append((name, config, split, constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        return datasets.Dataset.from_dict({"question": ["cached?"], "answer": ["x"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = load_prompts(PromptsConfig(path="hf:some/where:main", split="test", heldout=0))
    assert [p.text for p in found.prompts] == ["cached?"]
    assert found.unused == ("answer",)
    assert seen == [("some/where", "main", "test", True, True)]
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, False)


def test_a_hub_that_answers_anything_is_one(online, monkeypatch):
    import io
    from urllib.error import HTTPError, URLError

    def answers(error):
        def urlopen(request, timeout):
            assert (request.get_method(), timeout) == ("HEAD", hub.PATIENCE)
            if error:
                raise error
            return io.BytesIO()

        monkeypatch.setattr(hub, "urlopen", urlopen)
        return hub._hub_answers()

    assert answers(None)
    assert answers(HTTPError("x", 405, "not allowed", None, io.BytesIO()))
    assert not answers(URLError("no route"))
    assert not answers(TimeoutError())


def test_a_folder_needs_no_hub_and_a_missing_one_says_so(tmp_path, online):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("question,context,answer\nWhere?,In Rome.,x\n")
    found = load_prompts(PromptsConfig(path=f"hf:{tmp_path / 'data'}", heldout=0))
    assert [p.text for p in found.prompts] == ["In Rome.\n\nWhere?"]
    assert refusal(f"hf:{tmp_path}/none").endswith("no such folder")
    assert "validation" in str(_wrong_split(tmp_path / "data"))


def test_a_question_about_a_picture_is_not_asked_without_it_unasked(tmp_path, monkeypatch):
    import datasets
    import pyarrow
    from pyarrow import parquet

    stored = pyarrow.table({"question": ["Which colour?"], "image": [{"bytes": b"?", "path": None}]})
    parquet.write_table(stored, tmp_path / "p.parquet")
    features = datasets.Features({"question": datasets.Value("string"), "image": datasets.Image()})
    stored = stored.cast(features.arrow_schema)
    table = datasets.Dataset(datasets.table.InMemoryTable(stored), datasets.DatasetInfo(features=features))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    with pytest.raises(PromptError, match=r"is image part of the question\?"):
        load_prompts(PromptsConfig(path="hf:some/pictures", heldout=0))
    found = load_prompts(PromptsConfig(path="hf:some/pictures", columns=["question"], heldout=0))
    assert [p.text for p in found.prompts] == ["Which colour?"]
    both = PromptsConfig(path="hf:some/pictures", columns=["question", "image"], heldout=0)
    with pytest.raises(PromptError, match="image is bytes, expected text"):
        load_prompts(both)
    with pytest.raises(PromptError, match=r"is image part of the question\?"):
        load_prompts(PromptsConfig(path=str(tmp_path / "p.parquet"), heldout=0))


def _wrong_split(folder):
    with pytest.raises(PromptError) as told:
        load_prompts(PromptsConfig(path=f"hf:{folder}", split="validation"))
    return told.value


def test_a_model_card_does_not_tell_where_a_folder_is(tmp_path):
    from selfimprove.config_file import file_name

    (tmp_path / "data").mkdir()
    assert file_name(f"hf:{tmp_path / 'data'}") == "hf:data"
    assert file_name("hf:openai/gsm8k:main") == "hf:openai/gsm8k:main"
