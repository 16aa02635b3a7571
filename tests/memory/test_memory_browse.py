"""A person opens the memory in a browser: all is explained, saved questions answer, model text stays text."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Timer
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from memory_story import EMBEDDER, PROMPTS, commit, commit_vote

from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory
from selfimprove.memory.inspect import browse
from selfimprove.memory.inspect.browse import QUERIES, metadata
from selfimprove.memory.store.dictionary import relations
from selfimprove.outcomes import Reason, Selection, Verdict
from selfimprove.types import Stage

EVIL = "<script>document.title = 'owned'</script>"

needs_datasette = pytest.mark.skipif(find_spec("datasette") is None, reason="needs selfimprove[browse]")
needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A memory that its writer has open."""
    with ResponseMemory.create(tmp_path_factory.mktemp("run") / "memory.db") as memory:
        memory.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
        commit(memory, [("france", "Paris"), ("france", "Paris!"), ("france", "Lyon"), ("hot", EVIL)])
        commit_vote(memory, memory.responses(), lambda r: "paris" if "Paris" in r.text else r.text)
        commit_vote(memory, memory.responses(ids=[3, 4]), lambda r: r.text, index=1)
        low = Verdict(3, Reason.LOW_AGREEMENT, 0.45, 0.5)
        memory.commit_selection(1, Selection((Verdict(1, Reason.KEPT, weight=1.0),), (low,)))
        commit(memory, [("france", "Paris it is")], stage=Stage.REVISE, parents=(1, 3))
        yield memory


@pytest.fixture(scope="module")
def site(written):
    """The address at which `selfimprove memory RUN browse` serves that memory."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "selfimprove", "memory", str(written.db.path.parent), "browse"]
    command += ["--port", str(port), "--no-open"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as server:
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


@pytest.mark.slow
@needs_datasette
def test_the_views_open_and_say_what_they_are_and_nothing_can_be_written(site):
    for relation in relations():
        page = get(f"{site}/memory/{relation.name}?_size=5")
        assert relation.about[1:].replace("'", "&#39;") in page
        assert all(f"<dt>{column}</dt>" in page for column in relation.columns), relation.name
    assert json.loads(get(f"{site}/memory/most_flipped_prompts.json?_shape=array"))[0]["flips"] == 1
    assert [r["kept"] for r in json.loads(get(f"{site}/memory/survivors_by_operator.json?_shape=array"))] == [0, 1]
    (miss,) = json.loads(get(f"{site}/memory/edge_of_the_threshold.json?_shape=array"))
    assert (miss["response_id"], miss["missing"]) == (3, 0.05)
    with pytest.raises(HTTPError, match="400"):
        get(f"{site}/memory.json?sql={quote('DELETE FROM segments')}")


@pytest.mark.slow
@needs_datasette
def test_it_opens_on_the_readable_views_with_a_search_box(site):
    page = get(f"{site}/memory")
    assert 'action="/memory/search"' in page
    assert page.index('href="/memory/history"') < page.index('href="/memory/responses"'), "views come before tables"
    assert "every response, readable" in page.lower()

    def found(words):
        return [row["id"] for row in json.loads(get(f"{site}/memory/search.json?_shape=array&words={quote(words)}"))]

    assert sorted(found("paris")) == [1, 2, 5]
    assert found("paris  IT") == [5]
    assert found('"AND -(*') == [], "operators of FTS5 are words"
    assert found("document owned") == [4]
    assert EVIL not in get(f"{site}/memory/search?words=document")


@needs_datasette
@pytest.mark.slow
def test_a_response_with_markup_is_shown_as_text(site):
    page = get(f"{site}/memory/history?id=4")
    assert EVIL not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in page


@needs_datasette
@needs_chromium
@pytest.mark.slow
def test_a_real_browser_shows_every_view_and_question_and_runs_nothing_that_a_model_wrote(site, written, tmp_path):
    expected = {r.name: f"SELECT * FROM {r.name}" for r in relations() if r.kind == "view"}
    expected |= {name: sql for name, (_, _, sql) in QUERIES.items() if name != "search"}
    with chromium(tmp_path / "profile") as open_:
        for name, sql in expected.items():
            page = open_(f"{site}/memory/{name}")
            rows = re.search(r"<tbody>(.*)</tbody>", page, re.DOTALL)[1].count("<tr>")
            assert rows == len(written.db.rows(sql)) > 0, name
            assert "<title>memory: " in page, name
            assert EVIL not in page, name
            assert name not in ("history", "votes") or "&lt;script&gt;document.title" in page, name


@contextmanager
def chromium(profile):
    """A headless browser: `open_(address)` returns a page as it stands once it has loaded and its scripts have run.

    It is driven through two pipes, its descriptors 3 and 4 (Chrome DevTools Protocol: JSON that ends in NUL).
    """
    (its_in, requests), (replies, its_out) = os.pipe(), os.pipe()
    command = f"exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe '--user-data-dir={profile}'"
    command += f" 10<&{its_in} 11>&{its_out} 3<&10 4>&11"
    browser = subprocess.Popen(["bash", "-c", command], pass_fds=(its_in, its_out), stderr=subprocess.DEVNULL)
    os.close(its_in), os.close(its_out)
    limit = Timer(300, browser.kill)
    limit.start()
    received = bytearray()

    def until(wanted):
        while True:
            while b"\0" not in received:
                received.extend(os.read(replies, 65536) or pytest.fail("the browser ended"))
            message, _, rest = received.partition(b"\0")
            received[:] = rest
            if wanted.items() <= (message := json.loads(message)).items():
                return message.get("result")

    def ask(number, method, session=None, **parameters):
        question = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(requests, json.dumps(question).encode() + b"\0")
        return until({"id": number})

    def open_(address):
        ask(4, "Page.navigate", page, url=address)
        until({"method": "Page.loadEventFired"})
        return ask(5, "Runtime.evaluate", page, expression="document.documentElement.outerHTML")["result"]["value"]

    try:
        target = ask(1, "Target.createTarget", url="about:blank")["targetId"]
        page = ask(2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        ask(3, "Page.enable", page)
        yield open_
    finally:
        limit.cancel()
        browser.kill()
        browser.wait()
        os.close(requests), os.close(replies)


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
    for name, (_, _, sql) in QUERIES.items():
        assert memory.db.rows(sql, {"words": "x"} if name == "search" else ()) == []


def test_the_schema_in_the_docs_is_the_schema():
    from make_reference import DOCS, memory_page

    page = (DOCS / "memory.md").read_text(encoding="utf-8")
    assert page == memory_page(page), "run: python scripts/bench/make_reference.py"
