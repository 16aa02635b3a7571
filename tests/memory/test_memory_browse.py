"""A person opens the memory in a browser: all is explained, saved questions answer, model text stays text."""

import json
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from memory_story import commit, commit_vote

from selfimprove.errors import UserError
from selfimprove.memory import browse
from selfimprove.memory.browse import QUERIES, metadata
from selfimprove.memory.dictionary import relations
from selfimprove.verdicts import Reason, Selection, Verdict

EVIL = "<script>document.title = 'owned'</script>"

needs_datasette = pytest.mark.skipif(find_spec("datasette") is None, reason="needs selfimprove[browse]")
needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")


@pytest.fixture
def site(memory, path):
    """The address of a memory that is served while its writer still has it open."""
    commit(memory, [("france", "Paris"), ("france", "Paris!"), ("france", "Lyon"), ("hot", EVIL)])
    commit_vote(memory, memory.responses(), lambda r: "paris" if "Paris" in r.text else r.text)
    commit_vote(memory, memory.responses(ids=[3, 4]), lambda r: r.text, index=1)
    low = Verdict(3, Reason.LOW_AGREEMENT, 0.45, 0.5)
    memory.commit_selection(1, Selection((Verdict(1, Reason.KEPT, weight=1.0),), (low,)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = (
        "from pathlib import Path; from selfimprove.memory.browse import browse;"
        f"browse(Path({str(path)!r}), port={port}, open_browser=False)"
    )
    with subprocess.Popen([sys.executable, "-c", run], stderr=subprocess.DEVNULL, start_new_session=True) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    get(f"{address}/-/versions.json")
                    break
                except URLError:
                    assert server.poll() is None, "it ended"
                    time.sleep(0.1)
            yield address
        finally:
            subprocess.run(["kill", "-INT", "--", f"-{server.pid}"], check=True)  # as Ctrl-C does: to the whole group
            assert server.wait(30) == 0


def get(url):
    with urlopen(url) as reply:
        return reply.read().decode()


@needs_datasette
def test_the_views_open_and_say_what_they_are_and_nothing_can_be_written(site):
    for relation in relations():
        page = get(f"{site}/memory/{relation.name}?_size=5")
        assert relation.about[1:].replace("'", "&#39;") in page
        assert all(f"<dt>{column}</dt>" in page for column in relation.columns), relation.name
    assert json.loads(get(f"{site}/memory/most_flipped_prompts.json?_shape=array"))[0]["flips"] == 1
    assert [r["kept"] for r in json.loads(get(f"{site}/memory/survivors_by_operator.json?_shape=array"))] == [1]
    (miss,) = json.loads(get(f"{site}/memory/edge_of_the_threshold.json?_shape=array"))
    assert (miss["response_id"], miss["missing"]) == (3, 0.05)
    with pytest.raises(HTTPError, match="400"):
        get(f"{site}/memory.json?sql={quote('DELETE FROM segments')}")


@needs_datasette
def test_a_response_with_markup_is_shown_as_text(site):
    page = get(f"{site}/memory/history?id=4")
    assert EVIL not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in page


@needs_datasette
@needs_chromium
def test_a_real_browser_runs_nothing_that_a_model_wrote(site, tmp_path):
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    shown = subprocess.run(
        [*command, f"{site}/memory/history?id=4"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert "<title>owned" not in shown
    assert "&lt;script&gt;document.title" in shown


def test_without_datasette_the_way_out_is_named(path, monkeypatch):
    monkeypatch.setattr(browse.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'selfimprove\[browse\]'"):
        browse.browse(path, port=8001, open_browser=False)


def test_every_table_view_and_column_is_explained_and_every_question_is_sql(memory):
    described = metadata("it")["databases"]["memory"]["tables"]
    there = memory.db.rows("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow'")
    assert set(described) == {name for (name,) in there if not name.startswith("sqlite_")}
    for name, table in described.items():
        assert table["description"]
        if name != "texts":
            assert list(table["columns"]) == [
                c for (c,) in memory.db.rows(f"SELECT name FROM pragma_table_info('{name}')")
            ]
            assert all(table["columns"].values())
    for _, _, sql in QUERIES.values():
        assert memory.db.rows(sql) == []


def test_the_schema_in_the_docs_is_the_schema():
    from scripts.make_reference import DOCS, memory_page

    page = (DOCS / "memory.md").read_text(encoding="utf-8")
    assert page == memory_page(page), "run: python scripts/make_reference.py"
