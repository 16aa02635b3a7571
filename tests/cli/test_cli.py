"""The command line as a person meets it: on a finished tiny run, in a folder of its own."""

import json
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from tasks.tiny_runs import tiny_config

from selfimprove.cli.main import main
from selfimprove.config_file import to_yaml
from selfimprove.errors import Interrupted
from selfimprove.memory import Embedder, ResponseMemory
from selfimprove.memory.near_duplicates import near_duplicates
from selfimprove.prompts import load_prompts
from selfimprove.types import VOTERS, Origin, Split, Stage


@pytest.fixture
def cli(undisturbed, tmp_path, monkeypatch):
    """Run commands in a folder in which `runs/tiny` is a finished run."""
    shutil.copytree(undisturbed[0], tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)

    def invoke(*words, code=0):
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == code, f"{result.output}\n{result.stderr}"
        assert "Traceback" not in result.output
        return result.stdout if code == 0 else result.stderr

    return invoke


def an_id(origin, kept=None):
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        verdicts = memory.verdicts(2)
        for response in memory.responses(origins=[origin]):
            if kept is None or (response.id in verdicts and verdicts[response.id].kept == kept):
                return response.id
    pytest.fail(f"no {origin}")


def test_a_revision_is_traced_to_its_critique_and_the_rivals_it_criticised(cli):
    tree = json.loads(cli("memory", "tiny", "trace", an_id(Origin.REVISE), "--json"))
    origins = [node["entry"]["origin"] for node in tree["near"]]
    assert origins[-1] == "critique"
    assert len(origins) >= 3
    assert set(origins[:-1]) <= {"sample", "exemplar", "stitch", "revise"}
    drawn = cli("memory", "tiny", "trace", an_id(Origin.REVISE))
    assert "critique" in drawn
    assert "└─" in drawn


def test_show_tells_which_revisions_a_response_was_taught_as(cli):
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        survivor, rivals = memory.result(1, Stage.TRAIN)["revisions"][0]
        asked_elsewhere = memory.responses(origins=[Origin.PROBE])[0].id
    assert [1, rivals] in json.loads(cli("memory", "tiny", "show", survivor, "--json"))["taught_to_revise"]
    assert f"r1 as the revision of {', '.join(f'#{id_}' for id_ in rivals)}" in cli("memory", "tiny", "show", survivor)
    assert "taught" not in cli("memory", "tiny", "show", asked_elsewhere)


def test_lists_filter_and_speak_json(cli):
    rows = [json.loads(line) for line in cli("memory", "tiny", "list", "--kept", "-n", "3", "--json").splitlines()]
    assert len(rows) == 3
    dropped = [json.loads(x) for x in cli("memory", "tiny", "list", "--dropped", "-n", "0", "--json").splitlines()]
    assert dropped
    assert not {r["id"] for r in rows} & {r["id"] for r in dropped if r["round"] == 2}
    one = rows[0]
    same = cli("memory", "tiny", "list", "--prompt", one["prompt_id"][:8], "--round", one["round"], "--json", "-n", 0)
    assert {json.loads(x)["prompt_id"] for x in same.splitlines()} == {one["prompt_id"]}
    assert str(one["id"]) in cli("memory", "tiny", "list", "--kept")


def test_search_show_similar_stats_and_diff(cli):
    id_ = an_id(Origin.SAMPLE, kept=True)
    shown = json.loads(cli("memory", "tiny", "show", id_, "--json"))
    assert shown["id"] == id_
    assert cli("memory", "tiny", "show", id_).startswith("id")
    found = [json.loads(x) for x in cli("memory", "tiny", "search", "plus", "-n", "500", "--json").splitlines()]
    assert all("plus" in f"{r['prompt']} {r['response']}" for r in found)
    near = [json.loads(x) for x in cli("memory", "tiny", "similar", id_, "-n", "4", "--json").splitlines()]
    scores = [r["score"] for r in near]
    assert len(near) == 4
    assert scores == sorted(scores, reverse=True)
    assert id_ not in {r["id"] for r in near}
    assert json.loads(cli("memory", "tiny", "stats", "--json"))["responses"] > 0
    assert "survivors" in cli("memory", "tiny", "stats") or "kept" in cli("memory", "tiny", "stats")
    changes = [
        json.loads(x) for x in cli("memory", "tiny", "diff", shown["prompt_id"], "r1", "r2", "--json").split("\n") if x
    ]
    assert sum(c["before"] for c in changes) > 0
    assert sum(c["after"] for c in changes) > 0


def test_search_and_similar_take_the_filters_of_list(cli):
    def rows(*words):
        return [json.loads(line) for line in cli("memory", "tiny", *words, "--json").splitlines()]

    one = rows("list", "--kept", "-n", 1)[0]
    asked = ("--kept", "--round", one["round"], "--origin", one["origin"], "--prompt", one["prompt_id"])
    same = {row["id"] for row in rows("list", *asked, "-n", 0)}
    cli("memory", "tiny", "embed")
    assert {row["id"] for row in rows("search", "plus", *asked, "-n", 999)} == same
    assert {row["id"] for row in rows("similar", one["id"], *asked, "-n", 999)} == same - {one["id"]}
    dropped = rows("similar", one["id"], "--dropped", "--reason", "duplicate", "--reason", "minority")
    assert dropped and not {row["id"] for row in rows("list", "--dropped", "-n", 0)}.isdisjoint(
        r["id"] for r in dropped
    )
    assert rows("search", "plus", "--round", 99) == []
    assert "no origin 'oracle'" in cli("memory", "tiny", "similar", one["id"], "--origin", "oracle", code=2)


def test_similar_says_what_it_compares_and_embed_adds_the_rest(cli):
    id_ = an_id(Origin.SAMPLE)
    said = CliRunner().invoke(main, ["memory", "tiny", "similar", str(id_), "--json"])
    found = re.match(r"compared with (\d+) of (\d+) responses; `selfimprove memory tiny embed`", said.stderr)
    there, total = map(int, found.groups())
    assert f"{total - there} embedded\nall {total} responses are embedded\n" == cli("memory", "tiny", "embed")
    assert cli("memory", "tiny", "embed") == f"all {total} responses are embedded already\n"
    again = CliRunner().invoke(main, ["memory", "tiny", "similar", str(id_), "-n", str(total), "--json"])
    assert again.stderr == ""
    assert len(again.stdout.splitlines()) == total - 1
    assert "every hash, link and count is right" in cli("memory", "tiny", "verify")


def test_the_votes_on_a_prompt_over_time(cli):
    prompt_id = json.loads(cli("memory", "tiny", "list", "--kept", "-n", 1, "--json"))["prompt_id"]
    turns = [json.loads(line) for line in cli("memory", "tiny", "votes", prompt_id, "--json").splitlines()]
    assert [(turn["round"], turn["vote"]) for turn in turns] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        tally = memory.tallies(2, 2)[prompt_id]
    assert (turns[-1]["answer"], turns[-1]["agreement"], turns[-1]["margin"]) == (
        tally.answer,
        tally.agreement,
        tally.margin,
    )
    question, head, *lines, last = cli("memory", "tiny", "votes", prompt_id[:10]).splitlines()
    assert question.startswith(prompt_id)
    assert head.split() == ["round", "vote", "agreement", "margin", "answer"]
    assert lines[-1].split()[:4] == ["2", "2", f"{tally.agreement:.2f}", f"{tally.margin:.2f}"]
    assert last == f"{sum(line.endswith('  flipped') for line in lines)} flips in 6 votes"
    assert "0 prompts have an id" in cli("memory", "tiny", "votes", "zz", code=2)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_export_of_the_memory_loads_in_datasets(cli, suffix):
    from datasets import load_dataset

    cli("memory", "tiny", "export", f"m.{suffix}", "--kept")
    rows = load_dataset("json" if suffix == "jsonl" else suffix, data_files=f"m.{suffix}", split="train")
    assert {"prompt", "response", "origin"} <= set(rows.column_names)
    assert "exists" in cli("memory", "tiny", "export", f"m.{suffix}", code=2)


def test_status_path_verify_and_rollback(cli):
    status = json.loads(cli("status", "tiny", "--json"))
    assert (status["current"], len(status["rounds"])) == ("r0002", 2)
    assert "tiny" in cli("status")
    assert cli("memory", "tiny", "path").strip() == "runs/tiny/memory.db"
    assert json.loads(cli("memory", "tiny", "path", "--json")) == {"path": "runs/tiny/memory.db"}
    assert "is right" in cli("memory", "tiny", "verify")
    assert json.loads(cli("memory", "tiny", "verify", "--json"))["faults"] == []
    assert cli("rollback", "tiny", 1) == "current policy: r0001\n"
    assert cli("rollback", "tiny", 0) == "current policy: base\n"
    assert "was not kept" in cli("rollback", "tiny", 7, code=2)
    assert "nothing to export" in cli("export", "tiny", "out", code=2)


def test_a_damaged_run_hides_no_other_in_the_list(cli, tmp_path):
    (tmp_path / "runs/bad").mkdir()
    (tmp_path / "runs/bad/memory.db").touch()
    bad, tiny = cli("status").splitlines()
    assert bad.startswith("runs/bad: ")
    assert "memory.db" in bad
    assert tiny.startswith("runs/tiny: finished")
    assert [row["run"] for row in json.loads(cli("status", "--json"))] == ["runs/bad", "runs/tiny"]
    assert "memory.db" in cli("status", "bad", code=2)


def test_the_exported_model_answers_in_plain_transformers(cli):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert "wrote out" in cli("export", "tiny", "out")
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        kept, voted = sum(v.kept for v in memory.verdicts(2).values()), len(memory.responses(origins=VOTERS))
    assert f"trained on {kept} survivors of {voted} responses to 19 prompts" in Path("out/README.md").read_text()
    model, tokenizer = AutoModelForCausalLM.from_pretrained("out"), AutoTokenizer.from_pretrained("out")
    question = [{"role": "user", "content": "What is 2 plus 2?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = model.generate(ids, max_new_tokens=16, do_sample=False)
    assert "plus" in tokenizer.decode(answer[0, ids.shape[1] :])


def test_chat_answers_with_both_policies(undisturbed, cli):
    result = CliRunner().invoke(main, ["chat", "tiny", "--against", "base"], input="What is 1 plus 2?\n\n")
    assert result.exit_code == 0
    assert re.search(r"r0002 > .*plus", result.output)
    assert CliRunner().invoke(main, ["chat", "tiny", "--against", "r1"], input="").output.startswith("r0002 | r0001")
    assert "base >" in result.output
    ended = CliRunner().invoke(main, ["chat", "tiny"], input="")
    assert (ended.exit_code, "Aborted" in ended.output) == (0, False), "Ctrl-D ends as well"


def test_dry_run_and_check_spend_nothing(cli, taught_folder, prompts, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(to_yaml(tiny_config(taught_folder, prompts)))
    shown = cli("run", config, "name=fresh", "train.lr=0.5", "--dry-run")
    assert "lr: 0.5" in shown
    assert "held out" in shown
    assert not (tmp_path / "runs" / "fresh").exists()
    assert "end of turn '<|end|>'" in cli("check", config)
    assert "tokens/s\nexpect" in cli("check", config, "--probe")
    assert not (tmp_path / "runs" / "fresh").exists()


def test_check_counts_the_prompts_that_a_run_leaves_out(cli, taught_folder, tmp_path):
    asked = [f"Who was number {n}{end}" for n in range(9) for end in ("?", "!")]
    (tmp_path / "p.txt").write_text("\n".join(asked))
    settings = tiny_config(taught_folder, tmp_path / "p.txt")
    found = load_prompts(settings.prompts).prompts
    embedder = Embedder.load(settings.embedder)
    same = len(near_duplicates(found, embedder.encode([p.conversation for p in found]), embedder.encode))
    assert same > 0
    train = sum(p.split is Split.TRAIN for p in found) - same
    (tmp_path / "c.yaml").write_text(to_yaml(settings))
    said = cli("check", tmp_path / "c.yaml")
    assert f"{train} to learn from" in said
    assert f"{same} near-duplicates of held-out ones left out" in said


def test_no_library_takes_a_signal_for_an_error_of_its_own():
    assert not issubclass(Interrupted, Exception)
    with (
        pytest.raises(SystemExit) as stopped,
        patch("selfimprove.reports.status.list_runs", side_effect=Interrupted(15)),
    ):
        main(["status"])
    assert stopped.value.code == 128 + 15


def test_explain_knows_every_key(cli):
    assert "LoRA rank" in cli("explain", "train.rank")
    assert len(cli("explain").splitlines()) > 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "no.yaml"), "no configuration file no.yaml"),
        (("status", "nope"), "no run 'nope'; there is tiny"),
        (("memory", "tiny", "show", "999999"), "no response 999999"),
        (("memory", "tiny", "list", "--origin", "oracle"), "no origin 'oracle'"),
        (("memory", "tiny", "list", "--reason", "ugly"), "no reason 'ugly'"),
        (("memory", "tiny", "diff", "zz", "r0", "r1"), "0 prompts have an id"),
        (("memory", "tiny", "export", "m.csv"), "name it .jsonl, .parquet or .lance"),
        (("memory", "tiny", "export", "no/m.jsonl"), "no folder no to write m.jsonl in"),
        (("export", "tiny", "runs"), "exists"),
        (("explain", "train.lora"), "no configuration key 'train.lora'"),
        (("chat", "tiny", "--against", "7"), "no policy '7'"),
    ],
)
def test_mistakes_cost_one_line_and_exit_code_2(cli, words, says):
    error = cli(*words, code=2)
    assert says in error
    assert error.startswith("Error: ")
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [("similar", 1), ("search", "plus"), ("echo",), ("list",)])
def test_a_number_of_lines_below_none_is_refused(cli, words):
    assert "-2 is not in the range" in cli("memory", "tiny", *words, "-n", "-2", code=2)


@pytest.mark.parametrize(
    "command", sorted(main.commands) + [f"memory x {c}" for c in sorted(main.commands["memory"].commands)]
)
def test_every_command_has_help(command):
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert len(result.output) > 80


def test_show_names_the_first_of_many_ids_and_json_all_of_them(cli):
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        parents = {parent for response in memory.responses() for parent in response.parents}
        busiest = max(parents, key=lambda id_: len(memory.descendants(id_)))
    most = json.loads(cli("memory", "tiny", "show", busiest, "--json"))
    assert len(most["made"]) > 12
    (line,) = [x for x in cli("memory", "tiny", "show", most["id"]).splitlines() if x.startswith("made")]
    assert line.split(None, 1)[1].startswith(", ".join(map(str, most["made"][:12])))
    assert line.endswith(f"and {len(most['made']) - 12} more (--json)")
