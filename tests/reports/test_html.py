"""The report and the comparison: what they show, what they never run, and the page in a browser."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner

from selfimprove.cli.main import main
from selfimprove.memory import ResponseMemory
from selfimprove.reports.figures import load_figures
from selfimprove.reports.html import write_report
from selfimprove.types import (
    BASE,
    Finish,
    Generation,
    Message,
    Origin,
    Prompt,
    Request,
    Sampling,
    Split,
    Stage,
    Unit,
)

PAYLOAD = "</script><script>document.documentElement.dataset.owned='yes'</script><img src=x onerror=alert(1)>&amp;<!--"


@pytest.fixture
def run(undisturbed, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(undisturbed[0], tmp_path / "tiny")


@pytest.fixture
def attacked(run):
    """The same, in a third round that is not decided yet, with markup as a prompt and as the answer to it."""
    prompt = Prompt("f" * 16, (Message("user", f"prompt {PAYLOAD}"),), Split.TRAIN)
    request = Request(prompt.id, Origin.SAMPLE, prompt.messages, seed=0)
    unit = Unit(3, Stage.SAMPLE, 0, (request,), Sampling(0.7, 50, 1.0, 8), BASE)
    vector = np.eye(1, 32, dtype=np.float32)
    with ResponseMemory.open(run / "memory.db", write=True) as memory:
        memory.add_prompts([prompt], vector)
        memory.commit_unit(unit, [Generation(f"answer {PAYLOAD}", Finish.STOP, 9, 9)], vector, wall_s=1.0)
    return run


def page_of(folder, responses=10_000):
    write_report(folder, folder / "report.html", responses)
    return (folder / "report.html").read_text(encoding="utf-8")


def data_of(page):
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    data["responses"] = [dict(zip(data["columns"], row, strict=True)) for row in data["responses"]]
    return data


def test_every_response_is_there_with_its_vote_its_verdict_and_its_parents(run):
    data = data_of(page_of(run))
    with ResponseMemory.open(run / "memory.db") as memory:
        verdicts, judged = memory.verdicts(2), memory.judgements(2, 2)
        stored = memory.responses()
    assert [r["id"] for r in data["responses"]] == [r.id for r in stored]
    for shown, response in zip(data["responses"], stored, strict=True):
        assert (shown["text"], shown["parents"]) == (response.text, list(response.parents))
        if response.id in verdicts:
            assert shown["reason"] == verdicts[response.id].reason
            assert shown["answer"] == judged[response.id].answer
    kept = sum(v.kept for v in verdicts.values())
    assert kept == sum(r["reason"] == "kept" and r["decided"] == 2 for r in data["responses"])
    assert all(prompt["votes"] for prompt in data["prompts"] if prompt["split"] == "train")


def test_a_round_is_compared_with_the_base_and_with_the_last_kept_round(audited):
    heldout = data_of(page_of(audited[0]))["heldout_prompts"]
    with ResponseMemory.open(audited[0] / "memory.db") as memory:
        found = load_figures(audited[0], memory)
        assert [one.round for one in found.kept] == [1, 2]
        from_kept = [one.row() for one in found.prompts.changes(2, 1)]
    assert heldout["kept"] == {"1": 0, "2": 1}
    assert {r: list(against) for r, against in heldout["changes"].items()} == {"1": ["0"], "2": ["0", "1"]}
    assert heldout["changes"]["2"]["1"] == from_kept != heldout["changes"]["2"]["0"]
    assert list(heldout["families"]["2"]) == ["0", "1"]


def test_the_charts_hold_what_the_memory_says(run):
    data = data_of(page_of(run))
    with ResponseMemory.open(run / "memory.db") as memory:
        guard, base = memory.result(1, Stage.GUARD), memory.result(0, Stage.HEALTH)
        kept = sum(v.kept for v in memory.verdicts(1).values())
        written = sum(r.new_tokens for r in memory.responses())
    for check in guard["checks"]:
        row = next(r for r in data["health"] if r["round"] == 1 and r["name"] == check["name"])
        assert (row["value"], row["limit"]) == (check["value"], check["limit"])
    agreement = next(r for r in data["health"] if r["name"] == "agreement")
    assert (agreement["round"], agreement["value"], agreement["limit"]) == (0, base["agreement"], None)
    assert sum(r["count"] for r in data["reasons"] if (r["round"], r["reason"]) == (1, "kept")) == kept
    assert sum(r["survivors"] for r in data["operators"] if r["round"] == 1) == kept
    assert sum(r["value"] for r in data["tokens"]) == written
    for who in {r["who"] for r in data["lengths"]}:
        assert sum(r["share"] for r in data["lengths"] if r["who"] == who) == pytest.approx(1, abs=1e-3)


def test_without_answers_the_page_says_that_agreement_is_not_truth_and_with_them_it_gives_the_interval(run):
    assert "agreement, which is not truth" in page_of(run)
    summary = json.loads((run / "summary.json").read_text())
    summary["heldout"] = {
        **{"prompts": 9, "before": 0.25, "after": 0.5, "diff": 0.25, "diff_low": -0.01, "diff_high": 0.4},
        **{f"{name}_{when}": 0.5 for name in ("greedy", "maj", "pass") for when in ("before", "after")},
    }
    (run / "summary.json").write_text(json.dumps(summary))
    page = " ".join(page_of(run).split())
    assert "<b>25.0 %</b> to <b>50.0 %</b> (+25.0 points, 95 % interval -1.0 to +40.0: it holds zero" in page


def test_markup_in_texts_stays_text(attacked):
    page = page_of(attacked)
    assert "dataset.owned" in page
    assert "<script>document" not in page
    assert "<img" not in page
    shown = data_of(page)
    assert shown["responses"][-1]["text"] == f"answer {PAYLOAD}"
    assert shown["prompts"][-1]["text"] == f"prompt {PAYLOAD}"


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_load(attacked):
    page = page_of(attacked)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"'sha256-(.*?)'", policy) == hashes
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert not re.search(
        r"\b(?:src|href)=",
        re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).replace('<link rel="icon" href="data:,">', ""),
    )


def test_a_run_that_is_not_finished_can_be_reported(attacked):
    for name in ("summary.json", "metrics.jsonl"):
        (attacked / name).unlink()
    data = data_of(page_of(attacked))
    assert [r["round"] for r in data["rounds"]] == [1, 2]
    assert data["responses"][-1]["round"] == 3


def test_before_the_first_round_is_measured_the_page_gives_the_base_alone(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "early")
    with ResponseMemory.open(folder / "memory.db", write=True) as memory:
        memory.rollback(0)
    page = " ".join(page_of(folder).split())
    assert re.search(r"The base has <b>[\d.]+ %</b> accuracy on \d+ held-out prompts \(mean@\d+\); no round", page)
    assert "went from" not in page


def test_a_limit_leaves_out_whole_prompts(run):
    everything, some = data_of(page_of(run)), data_of(page_of(run, responses=100))
    assert len(some["prompts"]) < len(everything["prompts"]) == some["prompts_in_all"]
    assert 100 <= len(some["responses"]) < 160
    assert {prompt["split"] for prompt in some["prompts"]} == {"train", "heldout"}

    def texts(data):
        by_prompt = {}
        for r in data["responses"]:
            by_prompt.setdefault(data["prompts"][r["prompt"]]["id"], []).append(r["text"])
        return by_prompt

    assert texts(some).items() <= texts(everything).items()


def test_the_commands_write_where_they_say(run, tmp_path):
    result = CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "r.html")])
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path / 'r.html'}" in result.output
    assert (tmp_path / "r.html").stat().st_size < 10e6


def test_a_report_says_which_policy_was_measured_once_the_run_went_back(run):
    summary = json.loads((run / "summary.json").read_text())
    figures = dict.fromkeys(("before", "after", "diff", "diff_low", "diff_high"), 0.25) | {"prompts": 9}
    figures |= dict.fromkeys((f"{m}_{when}" for m in ("greedy", "maj", "pass") for when in ("before", "after")), 0.5)
    (run / "summary.json").write_text(json.dumps(summary | {"heldout": figures}))
    assert "not of the current one" not in page_of(run)
    with ResponseMemory.open(run / "memory.db", write=True) as memory:
        memory.rollback(1)
    page = " ".join(page_of(run).split())
    assert "This was measured of policy <b>r0002</b>, not of the current one, r0001." in page
    assert "Full: r0002." in page


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("missing/r.html", "there is no folder missing; name another place"),
        ("here", "no file can be written at here: it is a folder"),
        (".", "it is a folder"),
        ("n" * 300, "File name too long; name another place"),
    ],
)
def test_a_report_that_has_no_place_costs_one_line(run, tmp_path, monkeypatch, place, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    result = CliRunner().invoke(main, ["report", str(run), "--out", place])
    assert (result.exit_code, says in result.stderr, result.stderr.count("\n")) == (2, True, 1), result.stderr


def test_a_report_replaces_reports_alone(run, tmp_path):
    """It wrote over the config of its run and over links, and put a file in the place of a device."""
    pipe, notes, config = tmp_path / "pipe", tmp_path / "notes.txt", run / "config.yaml"
    os.mkfifo(pipe)
    notes.write_text("mine")
    before = config.read_text()
    for place in (pipe, notes, config):
        result = CliRunner().invoke(main, ["report", str(run), "--out", str(place)])
        assert result.exit_code == 2
        assert result.stderr == f"Error: {place} exists and is no report: choose another name, or remove it\n"
    assert (pipe.is_fifo(), notes.read_text(), config.read_text()) == (True, "mine", before)


def test_a_report_is_written_where_a_link_points_to(run, tmp_path):
    (tmp_path / "latest.html").symlink_to(tmp_path / "r.html")
    for _ in range(2):
        result = CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "latest.html")])
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "latest.html").is_symlink()
    assert (tmp_path / "r.html").is_file()


def test_a_run_that_has_not_begun_is_neither_reported_nor_compared(run, undisturbed):
    (run / "config.yaml").unlink()
    for words in (["report", run], ["compare", undisturbed[0], run]):
        result = CliRunner().invoke(main, [*map(str, words)])
        assert (result.exit_code, "config.yaml is missing: " in result.stderr) == (2, True), result.stderr


def test_compare_shows_both_runs_and_the_settings_that_differ(undisturbed, attacked):
    config = attacked / "config.yaml"
    config.write_text(config.read_text().replace("rank: 4", "rank: 8"))
    words = ["compare", str(undisturbed[0]), str(attacked)]
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    assert found["runs"] == ["undisturbed", "tiny"]
    assert found["settings"] == {"train.rank": [4, 8]}
    before, after = found["figures"]["responses"]
    assert after == before + 1
    table = CliRunner().invoke(main, words).output
    assert re.search(r"undisturbed +tiny", table)
    assert re.search(r"train\.rank +4 +8", table)


@pytest.fixture
def browse(tmp_path):
    """Open a file in headless Chromium; return the page as it then stands and what the console said."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")

    def browse(path, hash_="", width=1280):
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command += [
            f"--window-size={width},900",
            "--enable-logging=stderr",
            "--virtual-time-budget=2000",
            "--dump-dom",
            f"{path.as_uri()}{hash_}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return browse


def test_the_page_draws_filters_and_stays_silent_in_a_browser(attacked, browse):
    page = page_of(attacked)
    data = data_of(page)
    dom, console = browse(attacked / "report.html")
    assert console == []
    assert 'data-ready="yes"' in dom
    assert "data-owned" not in dom
    assert (
        len(re.findall(r'class="plot"><\w+[^>]* role="img"', dom)) == len(re.findall(r"<figure[^>]*><h3>", dom)) > 10
    ), "a chart in each figure"
    count = r"<output[^>]*>([\d,]+) of [\d,]+ prompts, ([\d,]+) of [\d,]+ responses"
    assert re.search(count, dom)[2].replace(",", "") == str(len(data["responses"]))

    kept = [r for r in data["responses"] if r["reason"] == "kept" and r["origin"] == "sample"]
    dom, _ = browse(attacked / "report.html", "#reason=kept&origin=sample")
    assert re.search(count, dom).groups() == (f"{len({r['prompt'] for r in kept}):,}", f"{len(kept):,}")

    dom, console = browse(attacked / "report.html", "#q=owned&round=3", width=390)
    assert console == []
    assert re.search(count, dom).groups() == ("1", "1")
    assert "answer &lt;/script&gt;&lt;script&gt;" in dom, "the only prompt found is open and shows its text"
    assert "data-owned" not in dom


PHONE = """<iframe srcdoc="{page}" style="width:390px;height:844px;border:0"></iframe>
<script>onload = () => {{
  const page = frames[0].document
  page.querySelectorAll("details").forEach(details => details.open = true)
  const {{dataset, scrollWidth, clientWidth}} = page.documentElement
  document.body.dataset.seen = `${{dataset.ready}}, ${{scrollWidth - clientWidth}} too wide for ${{clientWidth}}`
}}</script>"""
"""A phone's width, and what of the page does not fit it, its scroll bar apart.

A browser's own window cannot be made as narrow everywhere.
"""


def test_nothing_on_the_page_is_wider_than_a_phone(attacked, browse, tmp_path):
    page, policies = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of(attacked))
    assert policies == 1, "or the frame could not be looked into"

    def seen(page):
        (tmp_path / "phone.html").write_text(PHONE.format(page=html.escape(page)), encoding="utf-8")
        return re.search(r'data-seen="([^"]*)"', browse(tmp_path / "phone.html")[0])[1]

    assert re.fullmatch(r"yes, 0 too wide for 3[789]\d", seen(page))
    wide = page.replace("<main>", '<main><p style="width: 600px; max-width: none">wide')
    assert re.fullmatch(r"yes, 2\d\d too wide for .*", seen(wide))


def test_the_browser_would_tell_if_something_tried_to_load(run, browse):
    page = page_of(run).replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">')
    (run / "report.html").write_text(page, encoding="utf-8")
    _, console = browse(run / "report.html")
    assert any("Content Security Policy" in line for line in console)
