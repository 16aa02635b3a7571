"""What changed by prompt and family, what fell, and how near metrics are to their limits: from hand-made answers."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from healths import HEALTHY

from selfimprove.answers import Kind, Reader
from selfimprove.evaluation.families import Family
from selfimprove.evaluation.metrics import METRICS
from selfimprove.evaluation.scores import Accuracy, from_json, to_json
from selfimprove.reports.answers import HeldoutAnswers, read_heldout
from selfimprove.reports.answers import from_json as answers_from_json
from selfimprove.reports.changes import Change, family_changes, family_names, prompt_changes, sides
from selfimprove.reports.margins import metric_falls, way_used
from selfimprove.reports.share import shared
from selfimprove.types import Finish, Message, Origin, Prompt, Response, Split

ASKED = {"lily": "Is a lily an animal?", "cat": "Is a cat an animal?", "sum": "What is 2 plus 2?", "new": "Say a word."}
PROMPTS = [Prompt(id_, (Message("user", text),), Split.HELDOUT) for id_, text in ASKED.items()]
FAMILIES = family_names(
    (Family("is animal", ("lily", "cat")), Family("what plus", ("sum",)), Family("other", ("new",)))
)
BASE = {"lily": "no no no yes | no", "cat": "yes no no no | no", "sum": "4 4 5 6 | 4", "new": "a b c d | a"}
NOW = {"lily": "yes yes yes no | yes", "cat": "yes yes yes yes | yes", "sum": "4 4 5 5 | 5", "new": "a b c - | a"}
KEYS = {"lily": "no", "cat": "yes", "sum": "4"}


def answered(said, first):
    """Return responses by prompt, and the class of each: four samples and, behind the bar, the greedy answer."""
    groups, read = {}, {}
    for place, (id_, words) in enumerate(said.items()):
        samples, greedy = words.split(" | ")
        for slot, word in enumerate([*samples.split(), greedy]):
            number = first + 5 * place + slot
            origin = Origin.GREEDY if slot == 4 else Origin.PROBE
            response = Response(number, id_, 0, origin, "u", slot, word, Finish.STOP, 0, "base", 1, 1, ())
            groups.setdefault(id_, []).append(response)
            read[number] = None if word == "-" else word
    return groups, read


def audited(groups):
    """Return the accuracy of these responses by KEYS."""
    right = frozenset(r.id for id_ in KEYS for r in groups[id_] if r.text == KEYS[id_])
    greedy = np.array([float(groups[id_][4].id in right) for id_ in KEYS])
    mean = np.array([np.mean([r.id in right for r in groups[id_][:4]]) for id_ in KEYS])
    return Accuracy(tuple(KEYS), greedy, mean, mean, mean > 0, right)


def changes(audit=True):
    pair = []
    for first, said in ((1, BASE), (100, NOW)):
        groups, read = answered(said, first)
        pair.append(sides(groups, read, audited(groups) if audit else None))
    return prompt_changes(PROMPTS, FAMILIES, *pair)


def test_prompts_come_the_worst_first_with_both_answers_their_counts_and_what_of_them_is_right():
    lily, new, total, cat = changes()
    assert [lily.prompt.id, new.prompt.id, total.prompt.id, cat.prompt.id] == ["lily", "new", "sum", "cat"]
    assert (lily.kind, lily.by, lily.changed, lily.open) == (Change.REGRESSED, -0.5, True, False)
    assert [(g.answer, len(g.responses), g.right) for g in lily.before.groups] == [("no", 3, 3), ("yes", 1, 0)]
    assert (lily.before.greedy.answer, lily.before.greedy.right, lily.after.greedy.right) == ("no", 1, 0)
    assert (total.kind, total.changed, total.open) == (Change.SAME, False, True), "half of the samples settle nothing"
    assert (cat.kind, cat.by) == (Change.IMPROVED, 0.75)
    assert (new.kind, new.by, new.after.groups[-1].answer) == (None, None, None), "not audited; unreadable ones last"


def test_without_an_audit_those_that_changed_come_first_and_nothing_is_right_or_wrong():
    found = changes(audit=False)
    assert {one.prompt.id for one in found[:2]} == {"lily", "cat"}
    assert {one.kind for one in found} == {None}
    assert all(group.right is None for one in found for group in one.after.groups)
    assert next(one.name for one in family_changes(found)) == "is animal", "its top answer's share rose most"
    assert all(one.mean is None and one.greedy is None for one in family_changes(found))


def test_a_family_that_gives_one_answer_is_the_first_though_its_mean_rose():
    first, *_ = found = family_changes(changes())
    assert {one.name for one in found} == {"is animal", "what plus", "other"}
    assert first.name == "what plus", "its one greedy answer is wrong now"
    animal = next(one for one in found if one.name == "is animal")
    assert animal.mean == (0.5, 0.625)
    assert animal.greedy == (1, 1)
    assert (animal.improved, animal.regressed, animal.changed) == (1, 1, 2)
    assert (animal.after.top_answer, animal.after.top_fraction, animal.after.agreement) == ("yes", 1.0, 0.875)


def test_the_metrics_that_the_guard_was_given_are_shown_and_what_they_lack_is_computed():
    found = {one.name: one for one in family_changes(changes())}
    given = found["is animal"].after.__class__("is animal", 2, 0.1, "maybe", 0.2, 0.3)
    assert {one.name: one.after for one in family_changes(changes(), (), (given,))}["is animal"] == given


def test_metrics_of_other_prompts_than_the_family_holds_are_not_shown():
    found = {one.name: one for one in family_changes(changes())}
    stale = found["is animal"].after.__class__("is animal", 9, 0.1, "maybe", 0.2, 0.3)
    assert family_changes(changes(), (), (stale,)) == family_changes(changes())


def test_families_of_one_or_two_measured_prompts_are_one(undisturbed):
    from selfimprove.memory import ResponseMemory
    from selfimprove.reports.figures import load_figures

    with ResponseMemory.open(undisturbed[0] / "memory.db") as memory:
        found = load_figures(undisturbed[0], memory).prompts
        ids = sorted(found.sides[0])
        own = {id_: "few" if place < 2 else "one" if place == 2 else "many" for place, id_ in enumerate(ids)}
        pooled = replace(found, stored=replace(found.stored, families=own))
        assert pooled.families == {id_: "other" if own[id_] in ("few", "one") else "many" for id_ in ids}
        assert {one.name: one.prompts for one in pooled.family_changes(2)} == {"other": 3, "many": len(ids) - 3}


def test_right_responses_and_read_answers_survive_their_files():
    groups, read = answered(BASE, 1)
    accuracy = {0: audited(groups)}
    assert from_json(to_json(accuracy))[0].right == accuracy[0].right
    old = to_json(accuracy)
    del old["rounds"][0]["right"]
    assert from_json(old)[0].right is None
    answers = HeldoutAnswers({"lily": Kind.YES_NO}, {0: read})
    assert answers_from_json(json.loads(json.dumps(answers.to_json()))) == answers


def test_only_rounds_that_are_not_known_are_read(undisturbed):
    from selfimprove.memory import ResponseMemory

    class Counting(Reader):
        asked = 0

        def classes(self, *given):
            Counting.asked += 1
            return super().classes(*given)

    with ResponseMemory.open(undisturbed[0] / "memory.db") as memory:
        everything = read_heldout(memory, Counting(), HeldoutAnswers())
        assert sorted(everything.rounds) == [0, 1, 2]
        once = Counting.asked
        assert once == 3 * len(everything.kinds)
        assert read_heldout(memory, Counting(), everything) is everything
        two = HeldoutAnswers(everything.kinds, {r: everything.rounds[r] for r in (0, 1)})
        assert read_heldout(memory, Counting(), two) == everything
        assert Counting.asked == once + len(everything.kinds)


METRIC = {metric.name: metric for metric in METRICS}


@pytest.mark.parametrize(
    ("name", "references", "value", "limit", "used"),
    [
        ("top answer share", (0.1, 0.1), 0.15, 0.2, 0.5),
        ("top answer share", (0.1, 0.1), 0.25, 0.2, 1.5),
        ("top answer share", (0.1, 0.1), 0.05, 0.2, 0.0),
        ("parse rate", (0.9, 0.9), 0.85, 0.8, 0.5),
        ("agreement", (0.3, 0.6), 0.58, 0.55, 0.4),  # the base itself would fail: the last kept round is the reference
        ("agreement", (0.3, 0.4), 0.58, 0.55, None),
        ("KL to base", (None, None), 0.75, 3.0, 0.25),
        ("KL to base", (None, None), None, 3.0, None),
        ("parse rate", (0.9, 0.9), 0.85, None, None),
    ],
)
def test_the_way_to_a_limit_begins_at_the_better_of_base_and_last_kept(name, references, value, limit, used):
    fields = {"top answer share": "concentration", "parse rate": "parse_rate", "agreement": "agreement"}
    field = fields.get(name, "kl")
    healths = [HEALTHY.__class__(**asdict(HEALTHY) | {field: one}) for one in references]
    found = way_used(METRIC[name], healths, value, limit)
    assert found == (None if used is None else pytest.approx(used))


def test_what_moved_a_tenth_of_the_way_to_its_limit_is_told_the_largest_first():
    now = HEALTHY.__class__(**asdict(HEALTHY) | {"concentration": 0.2, "parse_rate": HEALTHY.parse_rate - 0.001})
    limits = {"top answer share": HEALTHY.concentration + 0.2, "parse rate": HEALTHY.parse_rate - 0.1}
    [fall] = metric_falls(HEALTHY, now, limits)
    assert (fall.name, fall.before, fall.after) == ("top answer share", HEALTHY.concentration, 0.2)
    assert fall.text.startswith("top answer share ")


def test_a_page_to_send_has_letters_for_answers_and_numbers_for_prompts_and_families():
    found = changes()
    place = {prompt.id: number for number, prompt in enumerate(PROMPTS)}
    found.sort(key=lambda one: place[one.prompt.id])
    page = {
        "config": "secret path",
        "shareable_config": "name: x",
        "model": "hf/model",
        "rounds": [{"round": 1, "because": "'lily' said", "checks": "kl 4 (limit 3)"}],
        "fallen": "Round 1 is worse than the base in greedy right of 'is animal' 1 → 0 of 2.",
        "prompts": ["Is a lily an animal?"],
        "responses": [["yes"]],
        "heldout_prompts": {
            "names": {"text-1": "a long lily"},
            "prompts": [{"id": one.prompt.id, "text": one.prompt.text, "family": one.family} for one in found],
            "sides": {0: [one.before.row() for one in found], 1: [one.after.row() for one in found]},
            "changes": {1: {0: [one.row() for one in found]}},
            "families": {1: {0: [one.row() for one in family_changes(found)]}},
        },
    }
    sent = shared(page, texts=False)
    for word in ("lily", "animal", "'yes'", "secret"):
        assert word not in repr({k: v for k, v in sent.items() if k != "shareable_config"}), word
    lily = place["lily"]
    base, now = (sent["heldout_prompts"]["sides"][r][lily] for r in (0, 1))
    assert [group[0] for group in base["groups"]] == ["answer A", "answer B"]
    assert [group[0] for group in now["groups"]] == ["answer B", "answer A"], "the same letter in every round"
    assert sent["rounds"][0]["because"] == "kl 4 (limit 3)"
    assert "greedy right of family" in sent["fallen"]
    assert shared(page, texts=True)["prompts"] == page["prompts"]
    assert shared(page, texts=True)["config"] == "name: x"
