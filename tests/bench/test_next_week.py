"""The bench of `memory.from` on the tiny model: the arms differ in what recall shows, and in nothing before it."""

import json

from next_week import compare, halves, play
from tasks.tiny import SUMS, sum_question
from tasks.tiny_runs import tiny_config

from selfimprove.memory import ResponseMemory
from selfimprove.run.progress import Progress
from selfimprove.types import Stage


def test_the_arms_have_the_same_samples_and_one_is_shown_the_first_run(taught_folder, prompts, tmp_path):
    audit = tmp_path / "audit.jsonl"
    audit.write_text("\n".join(json.dumps({"prompt": sum_question(a, b), "answers": [str(a + b)]}) for a, b in SUMS))
    config = tiny_config(
        taught_folder,
        prompts,
        prompts={"audit": str(audit)},
        propose={"exemplar": {"k": 2, "below": 2.0, "agree": 0.0}},
    )
    files = halves(config, tmp_path, 0)
    texts = [{json.loads(line)["prompt"] for line in file.read_text().splitlines()} for file in files]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == len(SUMS)
    first, second = (
        config.model_copy(update={"prompts": config.prompts.model_copy(update={"path": str(f)})}) for f in files
    )
    quiet, answers = Progress(quiet=True), tmp_path / "answers"
    play(first, tmp_path / "first", answers, quiet)
    memory = second.memory.model_copy(update={"from_": str(tmp_path / "first")})
    nothing = play(second, tmp_path / "nothing", answers, quiet)
    begun = play(second.model_copy(update={"memory": memory}), tmp_path / "memory", answers, quiet)
    assert nothing["from_memory"] == 0 < begun["from_memory"]
    assert nothing["labels"].keys() == begun["labels"].keys()
    sampled = []
    for name in ("nothing", "memory"):
        with ResponseMemory.open(tmp_path / name / "memory.db") as opened:
            sampled.append([r.text for r in opened.responses(rounds=[1], stages=[Stage.SAMPLE])])
    assert sampled[0] == sampled[1]
    assert "change of right labels" in compare([(nothing, begun)])
