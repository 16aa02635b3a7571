"""A person finds what changed: real clicks and keys in headless Chromium, on a desktop and on a phone."""

import json
import shutil

import pytest
from browser import browser, needs_chromium

from selfimprove.memory import ResponseMemory
from selfimprove.reports.figures import load_figures
from selfimprove.reports.html import write_report

pytestmark = [needs_chromium, pytest.mark.slow]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """One tab for all tests: starting a browser takes longer than a test."""
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def regressed(audited, tmp_path_factory):
    """The report of a run, and the prompt that regressed most in it: what all its samples had right, none has now."""
    folder = shutil.copytree(audited[0], tmp_path_factory.mktemp("page") / "run")
    stored = json.loads((folder / "accuracy.json").read_text())
    for row in stored["rounds"]:
        row["mean_at_k"][3] = 0.0 if row["round"] else 1.0
    (folder / "accuracy.json").write_text(json.dumps(stored))
    write_report(folder, folder / "report.html")
    with ResponseMemory.open(folder / "memory.db") as memory:
        found = load_figures(folder, memory)
        worst = found.prompts.changes(found.shown)[0]
        assert worst.by == -1.0
        texts = [memory.responses(ids=list(side.greedy.responses))[0].text for side in (worst.before, worst.after)]
    return folder / "report.html", worst, texts


@pytest.mark.parametrize("size", SIZES)
def test_two_clicks_show_the_worst_regressed_prompt_with_both_answers(regressed, tab, size):
    page, worst, texts = regressed
    width, height = SIZES[size]
    tab.open(page, width=width, height=height)
    tab.click("[data-show=regressed]")
    tab.click("#changed > details > summary")
    shown = tab.text("#changed > details")
    assert worst.prompt.text in shown
    base, now = (tab.eval(f"document.querySelectorAll('#changed .side-full')[{n}].innerText") for n in (0, 1))
    assert texts[0] in base
    assert base.startswith("Base")
    assert texts[1] in now
    assert "(now)" in now
    assert tab.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert tab.console == []
    assert {address.split("#")[0] for address in tab.requests} == {"about:blank", page.as_uri()} - {"about:blank"}


def test_the_filters_count_what_they_show_and_are_in_the_address(regressed, tab):
    page, worst, _ = regressed
    tab.open(page)
    for name in ("improved", "changed", "open", "all"):
        tab.click(f"[data-show={name}]")
        count = int(tab.text(f"[data-show={name}] b"))
        assert count == tab.eval("document.querySelectorAll('#changed > details').length"), name
    tab.click("#families button")
    family = tab.text("#families button")
    assert tab.eval("[...document.querySelectorAll('#changed .family')].map((e) => e.textContent)")[0] == family
    tab.click("[data-show=regressed]")
    asked = tab.eval("location.hash")
    assert "show=regressed" in asked
    tab.open(page, asked)
    assert tab.eval("document.querySelector('[data-show=regressed]').ariaPressed") == "true"
    tab.open(page, f"#prompt={worst.prompt.id}")
    assert tab.eval(f"document.getElementById('p-{worst.prompt.id}').open")
    tab.click("#changes [name=find]")
    tab.type("no such words")
    assert "No prompt is like that" in tab.text("#changed")


def test_a_round_is_shown_against_the_last_kept_one(regressed, tab):
    def headings():
        return [tab.text(f"#changes .row.head #{name}") for name in ("before", "now")]

    tab.open(regressed[0])
    assert headings() == ["Base", "Round 2 (now)"]
    tab.open(regressed[0], "#against=kept")
    assert headings() == ["Round 1", "Round 2 (now)"]
    tab.click("#changed > details > summary")
    assert tab.eval("[...document.querySelectorAll('#changed .side-full h3')].map((e) => e.textContent)") == headings()
    tab.open(regressed[0], "#against=kept&to=1")
    assert headings() == ["Base", "Round 1"], "no round was kept before the first"
    assert tab.eval("document.querySelector('[name=against]').options.length") == 1
    assert tab.console == []


def test_it_works_from_the_keyboard(regressed, tab):
    tab.open(regressed[0])
    tab.eval("document.querySelector('[data-show=all]').focus()")
    tab.press("Tab")
    assert tab.eval("document.activeElement.dataset.show") == "regressed"
    tab.press("Enter")
    assert tab.eval("document.activeElement.ariaPressed") == "true", "the focus stays on the filter"
    for _ in range(40):
        tab.press("Tab")
        if tab.eval("document.activeElement.matches('#changed > details > summary')"):
            break
    tab.press("Enter")
    assert tab.eval("document.activeElement.parentElement.open")


@pytest.mark.parametrize("heldout", [True, False])
def test_a_link_to_a_sample_lands_on_it(regressed, tab, heldout):
    page, worst, _ = regressed
    id_ = worst.after.greedy.responses[0] if heldout else 45
    tab.open(page, f"#q=%23{id_}")
    top, bottom, height = tab.eval(
        f"(() => {{ const b = document.getElementById('r-{id_}').getBoundingClientRect(); "
        "return [b.top, b.bottom, innerHeight] })()"
    )
    assert 0 <= top < bottom <= height
    tab.open(page, f"#prompt={worst.prompt.id}")
    tab.click(f"#p-{worst.prompt.id} a")
    assert tab.eval("document.querySelector('.wanted') !== null"), "a link within the page, too"


def test_it_is_dark_where_the_screen_is(regressed, tab):
    def brightness():
        return tab.eval("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")

    tab.open(regressed[0], dark=True)
    dark = brightness()
    tab.open(regressed[0])
    assert dark < 60 < 200 < brightness()


def test_the_page_to_send_shows_counts_and_no_texts(regressed, audited, tab, tmp_path):
    folder = regressed[0].parent
    told = write_report(folder, tmp_path / "shared.html", share=True)
    assert "without the texts" in told
    text = (tmp_path / "shared.html").read_text(encoding="utf-8")
    with ResponseMemory.open(folder / "memory.db") as memory:
        assert not any(prompt.text in text for prompt in memory.prompts())
        assert not any(r.text in text for r in memory.responses() if len(r.text) > 8)
    assert str(folder.parent) not in text
    tab.open(tmp_path / "shared.html", width=390, height=844)
    tab.click("[data-show=regressed]")
    tab.click("#changed > details > summary")
    shown = tab.text("#changed > details")
    assert "answer A" in shown
    assert "null" not in shown
    assert tab.eval("document.getElementById('samples').offsetParent") is None
    assert tab.console == []
