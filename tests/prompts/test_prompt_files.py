"""Every format that a prompt file may have, as its bytes are; damaged and foreign ones are refused in one line."""

import bz2
import gzip
import io
import json
import lzma
import os

import pytest

from selfimprove.config import PromptsConfig
from selfimprove.errors import PromptError
from selfimprove.prompts import load_prompts, read_rows

ROWS = [{"instruction": "Say it", "input": "¿Sí?", "output": "x"}, {"instruction": "Name a metal", "input": ""}]
ASKED = ["Say it\n\n¿Sí?", "Name a metal"]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'instruction,input,output\r\nSay it,¿Sí?,"x, ""y""\r\nz"\r\n\r\nName a metal,,\r\n'

FORMATS = [
    ("p.jsonl", LINES.encode()),
    ("p.ndjson", LINES.encode()),
    ("no-suffix", LINES.encode()),
    ("p.jsonl.gz", gzip.compress(LINES.encode())),
    ("p.JSONL.GZ", gzip.compress(LINES.encode())),
    ("p.jsonl.bz2", bz2.compress(LINES.encode())),
    ("p.json.xz", lzma.compress(json.dumps(ROWS).encode())),
    ("p.json", json.dumps(ROWS).encode()),
    ("p.json", json.dumps(ROWS, indent=2).encode()),
    ("p.json", json.dumps({"version": "1.1", "data": ROWS}).encode()),
    ("p.json", LINES.encode()),
    ("p.csv", CSV.encode()),
    ("p.csv", CSV.encode("utf-8-sig")),
    ("p.csv", CSV.replace("\r\n", "\r").encode()),
    ("p.csv", CSV.replace("\r\n", "\r").encode("utf-16")),
    ("p.jsonl", LINES.replace("\n", "\r").encode()),
    ("p.csv.gz", gzip.compress(CSV.encode())),
    ("p.csv", CSV.replace('"x, ""y""\r\nz"', "x").replace(",", ";").encode()),
    ("p.tsv", "instruction\tinput\nSay it\t¿Sí?\nName a metal\t\n".encode()),
    ("p.jsonl", LINES.encode("utf-8-sig")),
    ("p.jsonl", LINES.encode("utf-16")),
    ("p.jsonl", b"\xfe\xff" + LINES.encode("utf-16-be")),
    ("p.jsonl", LINES.encode("utf-32")),
    ("p.csv", CSV.encode("utf-16")),
    ("p.json", json.dumps(ROWS).encode("utf-16")),
    ("p.jsonl.gz", gzip.compress(LINES.encode("utf-16"))),
]


@pytest.mark.parametrize(("name", "content"), FORMATS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(FORMATS)])
def test_each_format_holds_the_same_prompts(asked, name, content):
    assert asked(content, name) == ASKED
    assert asked(content, name) == asked(content, name)


def test_poisoned_answers_change_nothing_in_any_format(load, tmp_path):
    """Rule 1: nothing that training can see comes from an answer column."""
    import datasets

    for poison in ("x", "POISON"):
        rows = [{"question": f"Which {n}?", "choices": ["a", "b"], "answer": poison, "Label": poison} for n in range(9)]
        table = datasets.Dataset.from_list(rows)
        (tmp_path / poison).mkdir()
        table.to_json(tmp_path / poison / "p.jsonl")
        table.to_parquet(tmp_path / poison / "p.parquet")
        (tmp_path / poison / "p.json").write_text(json.dumps(rows))
        cells = "".join(f'Which {n}?,"[""a"", ""b""]",{poison},{poison}\n' for n in range(9))
        (tmp_path / poison / "p.csv").write_text(f"question,choices,answer,Label\n{cells}")
    found = [
        load_prompts(PromptsConfig(path=str(tmp_path / poison / f"p.{kind}"), heldout=0.3))
        for poison in ("x", "POISON")
        for kind in ("jsonl", "parquet", "json", "csv")
    ]
    assert all(prompts == found[0] for prompts in found)
    assert len(found[0].prompts) == 9
    assert "POISON" not in repr(found)


def test_plain_text_may_be_utf_16_and_compressed(asked):
    assert asked("¿Sí?\r\n\r\nno\n".encode("utf-16"), "p.txt") == ["¿Sí?", "no"]
    assert asked(gzip.compress(b"yes\nno"), "p.txt.gz") == ["yes", "no"]
    assert asked("¿Sí?\rno\r\nyes\n".encode(), "p.txt") == ["¿Sí?", "no", "yes"]


def test_a_json_array_of_texts_is_a_prompt_each(asked):
    assert asked(b'["2 + 2?", "3 + 3?"]', "p.json") == ["2 + 2?", "3 + 3?"]


def test_parquet_is_read_without_its_answers(tmp_path):
    import pyarrow
    from pyarrow import parquet

    columns = {"question": ["Where?", "Who?"], "context": ["In Rome.", None], "answer": ["x", "y"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "p.parquet")
    found = load_prompts(PromptsConfig(path=str(tmp_path / "p.parquet"), heldout=0))
    assert [p.text for p in found.prompts] == ["In Rome.\n\nWhere?", "Who?"]
    assert found.unused == ("answer",)
    [first, _] = (row for _, row in read_rows(str(tmp_path / "p.parquet")))
    assert first["answer"] is None
    [first, _] = (row for _, row in read_rows(str(tmp_path / "p.parquet"), answers=True))
    assert first["answer"] == "x"


def test_conversations_and_options_in_a_csv_are_json(asked):
    talk = json.dumps([{"role": "user", "content": "Hi"}]).replace('"', '""')
    assert asked(f'messages\n"{talk}"\n'.encode(), "p.csv") == ["Hi"]
    assert asked(b'question,choices\nWhich?,"[""x"", ""y""]"\n', "p.csv") == ["Which?\nA) x\nB) y"]


def test_the_columns_of_a_csv_say_what_they_are(load):
    found = load(b",Unnamed: 0,question,A,B,C,answer\n0,0,Which?,x,y,z,B\n", "p.csv")
    assert [p.text for p in found.prompts] == ["Which?\nA) x\nB) y\nC) z"]
    assert found.unused == ("", "Unnamed: 0", "answer")


def test_empty_columns_without_a_name_are_no_columns(load):
    """As spreadsheets save them, beside the table and where a column was emptied."""
    found = load(b",prompt,,\n,a,,\n,b,,\n", "p.csv")
    assert [p.text for p in found.prompts] == ["a", "b"]
    assert (found.skipped, found.columns()) == ((), "")


def test_a_line_of_a_csv_with_another_number_of_fields_is_skipped(load):
    found = load(b"prompt,id\na,1\nb\nc,3,4\nd,4\n", "p.csv")
    assert [p.text for p in found.prompts] == ["a", "d"]
    assert [str(s) for s in found.skipped] == [
        "line 3: 1 fields, the header has 2",
        "line 4: 3 fields, the header has 2",
    ]


def test_a_quotation_mark_that_is_not_closed_swallows_nothing(load, asked):
    rows = [f"What is {n} + {n}?\n" for n in range(30)]
    stray = [*rows[:20], '"' + rows[20], *rows[21:]]
    with pytest.raises(PromptError, match=r"p\.csv: line 22: a quotation mark opens here and 9 more lines"):
        load("".join(["prompt\n", *stray]).encode(), "p.csv")
    stray[25] = '"' + stray[25]  # where the first would be closed, were it not for the text behind
    with pytest.raises(PromptError, match=r"line 22: a quotation mark opens here and 5 more lines"):
        load("".join(["prompt\n", *stray]).encode(), "p.csv")
    found = load(b'prompt\n"Two" lines\n"one\ncell"\n"last', "p.csv")
    assert [p.text for p in found.prompts] == ["one\ncell"]
    assert [s.line for s in found.skipped] == [2, 5], "a line alone is skipped, and counted"
    assert asked(b'prompt\nSay "hi"\n"Say ""hi"""\n', "p.csv") == ['Say "hi"']


def test_items_of_an_array_are_counted_as_rows(load):
    found = load(b'[{"prompt": "a"}, 7, {"prompt": " "}, ["b"], {"prompt": "c"}]', "p.json")
    assert [str(s).partition(",")[0] for s in found.skipped] == [
        "row 2: a JSON int",
        "row 3: the user message is empty",
        "row 4: a JSON list",
    ]
    with pytest.raises(PromptError, match=r"p\.json, row 2: "):
        load(b'[{"prompt": "a"}, 7]', "p.json", strict=True)


DAMAGED = [
    ("p.jsonl.gz", LINES.encode(), "Not a gzipped file"),
    ("p.jsonl.gz", gzip.compress(LINES.encode() * 99)[:-20], "compressed data are damaged"),
    ("p.jsonl.xz", lzma.compress(LINES.encode())[:40], "compressed data are damaged"),
    ("p.jsonl.xz", b"no such thing", "compressed data are damaged"),
    ("p.jsonl.bz2", b"no such thing", "Invalid data stream"),
    ("p.json", b'[{"prompt": "a"}, {"prom', "not valid JSON"),
    ("p.json", b"7", "a JSON int, expected an array"),
    ("p.json", b"[" * 100_000, "nested too deeply"),
    ("p.json", b'["caf\xe9"]', "not valid utf-8"),
    ("p.json", b"[]", "empty"),
    ("p.json", b"", "not valid JSON"),
    ("p.csv", b"", "empty"),
    ("p.csv", "prompt\na\ncafé\n".encode("latin-1"), "line 3: not UTF-8 (byte 3); save the file as UTF-8"),
    ("p.csv", b"prompt,prompt\na,b\n", "names prompt twice"),
    ("p.csv", b'prompt\n"' + b"a\n" * (1 << 20), "line 2: a quotation mark opens here"),
    ("p.csv", b"What is 2 + 2?\nWhat is 3 + 3?\n", "has What is 2 + 2? but not prompt"),
    ("p.jsonl", LINES.encode("utf-16")[:-1], "not valid utf-16"),
    ("p.jsonl", '{"prompt": "a"}'.encode("utf-16-le"), "is it UTF-16 without a byte order mark?"),
    ("p.parquet", b"PAR1 and no more", "p.parquet"),
    ("p.xlsx", b"PK\x03\x04", ".xlsx files are not read; save it as JSON lines, CSV"),
    ("p.jsonl.zst", b"\x28\xb5\x2f\xfd", ".zst files are not read"),
]


@pytest.mark.parametrize(("name", "content", "says"), DAMAGED, ids=[f"{name}-{says}" for name, _, says in DAMAGED])
def test_what_cannot_be_read_is_refused_in_one_line(load, name, content, says):
    with pytest.raises(PromptError) as told:
        load(content, name)
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("openai/gsm8k", "if it is the id of a dataset, write hf:openai/gsm8k"),
        ("openai/gsm8k:main", "write hf:openai/gsm8k:main"),
        ("some/data-v1.5", "write hf:some/data-v1.5"),
        ("https://example.org/p.jsonl", "download the file first"),
    ],
)
def test_a_name_that_is_no_file_gets_a_hint(path, says):
    with pytest.raises(PromptError, match="No such file") as told:
        load_prompts(PromptsConfig(path=path))
    assert str(told.value).endswith(says)


def test_a_missing_file_in_a_folder_that_exists_is_not_taken_for_a_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for path in ("data/prompts", "none.jsonl", "other/none.jsonl"):
        with pytest.raises(PromptError) as told:
            load_prompts(PromptsConfig(path=path))
        assert "hf:" not in str(told.value)


def test_standard_input_may_be_utf_16_and_is_read_no_further_than_the_limit(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LINES.encode("utf-16"))))
    assert [p.text for p in load_prompts(PromptsConfig(path="-", heldout=0)).prompts] == ASKED
    read, write = os.pipe()
    os.write(write, b"one\ntwo\nthree\n")  # and never closed: reading to the end would wait for ever
    with os.fdopen(read, encoding="utf-8") as stdin, os.fdopen(write, "wb"):
        monkeypatch.setattr("sys.stdin", stdin)
        found = load_prompts(PromptsConfig(path="-", heldout=0, limit=2))
        assert [p.text for p in found.prompts] == ["one", "two"]
