"""Model card of an export: base, method, figures and limits; it holds no prompts and no responses."""

from dataclasses import dataclass
from typing import Any

import yaml

from ..config import RunConfig
from ..config_file import file_name, shareable_yaml

KNOWN_BASES = {"bundled:smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Bundled name -> (hub id, licence)."""

PAGE = "report.html"
"""The run's report without texts, beside the card."""

LIBRARIES = {"merged": "transformers", "adapter": "peft", "gguf": "gguf", "ollama": "gguf"}
"""Form of an export -> what loads it, as the Hub names it."""

LIMITS = """The model learned from its own majority votes. What it gets wrong in the same way most of the time, it
now gets wrong more reliably; nothing checked its answers while it trained. The figures hold for the held-out prompts of
this run and for nothing else. Licence and limits of the base model apply."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """Training data of a policy: prompts, responses up to its round, and survivors of that round."""

    prompts: int
    responses: int
    survivors: int


def model_card(config: RunConfig, summary: dict[str, Any], policy: str, form: str, learnt: Learnt) -> str:
    """Return README.md for an export: YAML front matter for the Hub, then the account for people.

    `summary` is the run's summary.json, with `families` and `fallen` of this policy; without audited accuracy the card
    says that none was measured.
    """
    base, licence = KNOWN_BASES.get(config.model.path, (config.model.path, None))
    base = file_name(base)
    front: dict[str, Any] = {
        "base_model": base,
        "base_model_relation": "adapter" if form == "adapter" else "finetune",
        "library_name": LIBRARIES[form],
        "pipeline_tag": "text-generation",
        "tags": ["selfimprove", "self-consistency", "label-free"],
    }
    if licence:
        front["license"] = licence
    kept = summary["rounds_kept"]
    rejected = len(summary["rounds"]) - kept
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
            f"# {config.name}: {base}, improved from its own answers\n",
            f"Made by `selfimprove`: the model {_did(config)}, voted, and learned from the answers that its votes "
            "agreed on. No labels, no reward model, no judge, no teacher.\n",
            f"{kept} round(s) kept, {rejected} rejected; this is policy `{policy}`, trained on {learnt.survivors:,} "
            f"survivors of {learnt.responses:,} responses to {learnt.prompts:,} prompts.\n",
            "## Measured\n",
            _measured(config, summary, policy),
            _by_round(config, summary),
            _by_family(config, summary.get("families", [])),
            _worse(summary.get("fallen")),
            f"[Charts, decisions and counts of the run]({PAGE}), without what prompts and responses say.\n",
            f"## Limits\n\n{LIMITS}\n",
            f"## Configuration\n\n```yaml\n{shareable_yaml(config)}```\n",
        ]
    )


def _by_round(config: RunConfig, summary: dict[str, Any]) -> str:
    """Return a table of all rounds, kept and rejected: label-free agreement, and accuracy where audited."""
    rounds = [("base", None, summary["agreement"]["before"], _base(summary.get("heldout")))]
    rounds += [(str(r["round"]), r["decision"], r["agreement"], r.get("accuracy")) for r in summary["rounds"]]
    k = config.evaluate.k
    lines = [
        f"| round | decision | agreement | mean of {k} | greedy | mean of {k} from base |",
        "|---|---|---|---|---|---|",
    ]
    for name, decision, agreement, accuracy in rounds:
        known = accuracy or {}
        change = (
            ""
            if "from_base" not in known
            else (f"{known['from_base']:+.3f} ({known['from_base_low']:+.3f} to {known['from_base_high']:+.3f})")
        )
        cells = (name, decision or "", *map(_number, (agreement, known.get("mean_at_k"), known.get("greedy"))), change)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _base(heldout: dict[str, float] | None) -> dict[str, float] | None:
    return heldout and {"mean_at_k": heldout["before"], "greedy": heldout["greedy_before"]}


def _by_family(config: RunConfig, families: list[dict[str, Any]]) -> str:
    """Return a table of the families, the worst first; they are numbered: their names are words of prompts."""
    if not families:
        return ""
    lines = [
        "Groups of similar held-out prompts, the worst first (base -> this policy):\n",
        f"| group | prompts | mean of {config.evaluate.k} | greedy right | agreement | share of the top answer |",
        "|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(families, start=1):
        before, after = one["before"], one["after"]
        mean, greedy = one["mean"], one["greedy"]
        cells = (
            str(number),
            str(one["prompts"]),
            f"{mean[0]:.3f} -> {mean[1]:.3f}" if mean else "",
            f"{greedy[0]} -> {greedy[1]}" if greedy else "",
            f"{before['agreement']:.2f} -> {after['agreement']:.2f}",
            f"{before['top_fraction']:.2f} -> {after['top_fraction']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _worse(fallen: dict[str, Any] | None) -> str:
    """Return what is worse than in the best other kept round; falls of a family are in the table above."""
    if fallen is None:
        return ""
    falls = [fall for fall in (*fallen["accuracy"], *fallen["metrics"]) if fall["of"] is None]
    listed = "; ".join(f"{fall['name']} {fall['before']:.3g} -> {fall['after']:.3g}" for fall in falls) or "nothing"
    against = f"round {fallen['against']}" if fallen["against"] else "the base"
    return f"Worse than {against} in: {listed}.\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _did(config: RunConfig) -> str:
    """Return the operators that were on, as a list in words."""
    operators = {
        "answered again with recalled answers in view": config.propose.exemplar.k,
        "criticized and revised": config.propose.revise.k,
        "stitched steps of past answers": config.propose.stitch.k,
    }
    return ", ".join(["sampled answers", *(name for name, k in operators.items() if k)])


def _measured(config: RunConfig, summary: dict[str, Any], policy: str) -> str:
    figures = summary.get("heldout")
    if not figures:
        return "The run had no answers to its held-out prompts, so no accuracy was measured.\n"
    measured = summary.get("measured", summary["current"])
    if policy != measured:
        return f"The run's figures are those of policy `{measured}`, so they are not given here.\n"
    k = config.evaluate.k
    return "\n".join(
        [
            f"Accuracy on {figures['prompts']} held-out prompts, never trained on:\n",
            "| | before | after |\n|---|---|---|",
            f"| mean of {k} samples | {figures['before']:.3f} | {figures['after']:.3f} |",
            f"| greedy | {figures['greedy_before']:.3f} | {figures['greedy_after']:.3f} |",
            f"| majority of {k} | {figures['maj_before']:.3f} | {figures['maj_after']:.3f} |",
            f"\nChange of the mean: {figures['diff']:+.3f}, paired bootstrap 95 % interval "
            f"{figures['diff_low']:+.3f} to {figures['diff_high']:+.3f}.\n",
        ]
    )
