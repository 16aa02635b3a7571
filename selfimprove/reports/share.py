"""The page to send: local paths cut down to names and, unless they are asked for, no texts of prompts and responses."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config_file import file_name


def shared(data: Mapping[str, Any], *, texts: bool) -> dict[str, Any]:
    """Return the data of a page that may be sent to others.

    Charts, counts and figures stay. Without `texts`, prompts and families are numbered, the answers to a prompt are
    lettered (the same letter in every round), and responses are left out. What a model wrote is nowhere in the result.
    """
    public = dict(data) | {"config": data["shareable_config"], "model": file_name(data["model"])}
    if texts:
        return public
    heldout = data["heldout_prompts"]
    rows = [row for by_round in heldout["families"].values() for against in by_round.values() for row in against]
    names = dict.fromkeys([*(row["name"] for row in rows), *(prompt["family"] for prompt in heldout["prompts"])])
    numbered = {name: f"family {number}" for number, name in enumerate(names, start=1)}
    return public | {
        "texts": False,
        "rounds": [row | {"because": row["checks"] or "nothing was trained"} for row in data["rounds"]],
        "fallen": _renamed(data["fallen"], numbered),
        "heldout_prompts": heldout
        | {
            "names": {},
            "prompts": [
                {"id": str(number), "text": f"prompt {number}", "family": numbered[prompt["family"]]}
                for number, prompt in enumerate(heldout["prompts"], start=1)
            ],
            "sides": _lettered(heldout["sides"]),
            "changes": _renumbered(heldout["changes"], [prompt["id"] for prompt in heldout["prompts"]]),
            "families": {
                round_: {
                    old: [_nameless(row, numbered[row["name"]]) for row in against] for old, against in by_round.items()
                }
                for round_, by_round in heldout["families"].items()
            },
        },
        "prompts": [],
        "responses": [],
    }


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for old in sorted(names, key=len, reverse=True):
        text = text.replace(repr(old), names[old])
    return text


def _nameless(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return (
        dict(row)
        | {"name": name}
        | {side: row[side] | {"name": name, "top_answer": None} for side in ("before", "after")}
    )


def _renumbered(
    changes: Mapping[int, Mapping[int, Sequence[Mapping[str, Any]]]], ids: Sequence[str]
) -> dict[int, dict[int, list[dict[str, Any]]]]:
    number = {id_: str(place) for place, id_ in enumerate(ids, start=1)}
    return {
        round_: {old: [dict(row) | {"id": number[row["id"]]} for row in rows] for old, rows in by_round.items()}
        for round_, by_round in changes.items()
    }


def _lettered(sides: Mapping[int, Sequence[Any]]) -> dict[int, list[Any]]:
    """Return the answers of all rounds with each answer to a prompt named A, B, ... in the order of appearance."""
    letters: dict[int, dict[str, str]] = {}
    found: dict[int, list[Any]] = {}
    for round_ in sorted(sides):
        found[round_] = []
        for place, side in enumerate(sides[round_]):
            known = letters.setdefault(place, {})
            found[round_].append(side and _without_answers(side, known))
    return found


def _without_answers(side: Mapping[str, Any], known: dict[str, str]) -> dict[str, Any]:
    def group(row: Sequence[Any]) -> list[Any]:
        answer, ids, right = row
        return [None if answer is None else known.setdefault(answer, _letter(len(known))), ids, right]

    return dict(side) | {
        "groups": [group(row) for row in side["groups"]],
        "greedy": side["greedy"] and group(side["greedy"]),
    }


def _letter(number: int) -> str:
    """Return A to Z, then A2 to Z2 and so on."""
    turn, letter = divmod(number, 26)
    return "answer " + chr(ord("A") + letter) + (str(turn + 1) if turn else "")
