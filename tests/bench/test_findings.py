"""The tables of findings and the ablation of the guard, on made-up cells and runs."""

import findings
import guard_ablation
import pytest
from guard_ablation import Played

FAMILIES = ["a"] * 8 + ["b"] * 8


def cell(arm, seed, *curve, base=0.25):
    """A cell with held-out prompts in two families; `curve` gives the accuracy of both after each round."""

    def values(a, b):
        return [float(i < 8 * a) for i in range(8)] + [float(i < 8 * b) for i in range(8)]

    by_round = [values(base, base), *(values(*point) for point in curve)]
    figures = {"label_accuracy": 0.5, "generated_tokens": 100, "checks": {}}
    return {
        **{"task": "t", "model": "m", "arm": arm, "seed": seed, "dtype": "float32"},
        "rounds": [figures for _ in by_round],
        "heldout": {"ids": list("0123456789abcdef"), "families": FAMILIES}
        | dict.fromkeys(("mean", "greedy", "maj"), by_round),
        "learnt": {"greedy": [0.1] * len(by_round), "mean": [0.1, 0.4]},
        "off_task": {"puzzles": {"greedy": [[0, 1, 0, 0], [1, 1, 0, 0]], "mean": [[0.0, 0.5], [0.5, 0.5]]}},
    }


def base(arm, accuracy):
    made = cell(arm, 0, base=accuracy)
    del made["learnt"], made["off_task"]
    return made


@pytest.fixture
def cells():
    return [
        *(cell("ours", seed, (0.5, 0.5), (1.0, 0.0)) for seed in (0, 1)),
        cell("lmsi", 0, (0.5, 0.5), (0.5, 0.5)),
        base("base", 0.25),
        base("base-64", 0.375),
        base("base-t0.3", 0.5),
    ]


def row(table, *names):
    (line,) = (line for line in table.splitlines() if all(f"| {name} |" in line for name in names))
    return line


def test_the_summary_has_a_row_an_arm_with_gains_and_fallen_families(cells):
    table = findings.summary(cells)
    ours = row(table, "ours", "2")
    assert "| 0.500 | 0.500 | 0.500 | +0.250 (" in ours, "greedy, mean@k, maj@k and the gain over the base"
    assert "| +0.000 (" in ours, "as good as lmsi on the seed that both have, and as its own first round"
    assert "| 0.500, 0.500 | b -0.25 |" in ours
    assert row(table, "base-64").endswith("| 0.375 | 0.375 | 0.375 |  |  |  |  |  |  |")


def test_controls_set_the_trained_policy_beside_more_samples_and_the_best_temperature(cells):
    ours = row(findings.controls(cells), "ours")
    assert "| 0.250 | 0.500 (base-t0.3) | 0.375 | 0.500 | +0.125 (" in ours
    assert ours.endswith("| 0.100, 0.100 | 0.100, 0.400 |")
    lmsi = row(findings.controls(cells), "lmsi")
    assert "| 1.000, 0.200 |" in lmsi, "right on the 6 prompts with a right majority and on 2 of the other 10"


def test_off_task_and_families_are_shown_before_and_after(cells):
    assert "| puzzles | 0.250, 0.500 | +0.250 (" in row(findings.off_task(cells), "lmsi")
    table = findings.families(cells)
    assert "**t, m, ours**" in table and "**t, m, lmsi**" in table
    assert "| b | 0.250 | 0.500 | 0.000 | -0.250 (-0.250 to -0.250) |" not in table, "an interval over prompts"
    assert "| a | 0.250 | 0.500 | 1.000 | +0.750 (" in table


def test_the_decision_of_the_guard_is_set_beside_what_the_round_did():
    rounds = ((1.0, 1.0), (0.0, 0.5), (0.0, 0.5), (1.0, 1.0))  # better, worse, no difference, better
    made = cell("ours", 0, *rounds)
    verdicts = ("keep", "keep", "parse rate 0.1 (limit 0.9)", "KL 9 (limit 3)")
    made["rounds"] = [made["rounds"][0], *(made["rounds"][0] | {"guard": verdict} for verdict in verdicts)]
    table = findings.predictions([made, base("base", 0.25)])
    assert row(table, "ours").endswith("| 4 | 1, 0, 1 | 1, 1, 0 | 2 |"), "a worse round kept, a better one rejected"
    assert table.endswith("| all | | | 4 | | | 2 |")


def runs():
    names = [frozenset(names) for names in ((), ("agreement",), ("agreement", "parse rate"), ("parse rate",))]
    nothing, agreement, both, parse = names
    return [
        Played("seen by one", 2, (nothing, agreement)),
        Played("seen by both", 1, (both,)),
        Played("too late", 1, (nothing, parse)),
        Played("healthy", None, (nothing, nothing)),
        Played("alarm", None, (parse, nothing)),
    ]


def test_the_ablation_counts_who_sees_a_fall_first_and_alone():
    table = guard_ablation.table(runs())
    assert table.startswith(
        "5 runs, 3 fall: recall 0.67, false alarms 0.50. Enough for that recall: agreement (false al"
    )
    assert "| agreement | 2 | 2 | 1 | 0 | 0 | 0.33 | 0.50 |" in table
    assert "| parse rate | 1 | 1 | 0 | 1 | 1 | 0.67 | 0.00 |" in table
    assert table.endswith("Missed: too late.")


def test_a_cell_falls_where_one_family_does():
    collapsed = cell("ours", 0, (0.5, 0.5), (1.0, 0.0))
    limits = {"parse rate": (0.5, 0.4, True), "top answer of a family": (0.6, 0.3, False)}
    collapsed["rounds"][1:] = [collapsed["rounds"][1], collapsed["rounds"][2] | {"checks": limits}]
    found = guard_ablation.of_cell(collapsed)
    assert (found.fall, found.failed) == (2, (frozenset(), frozenset({"top answer of a family"})))
    assert guard_ablation.of_cell(cell("lmsi", 0, (0.5, 0.5), (0.5, 0.5))).fall is None
