"""Model card of an export: base, method, figures and limits; it holds no prompts and no responses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..config import RunConfig

KNOWN_BASES = {"bundled:smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Bundled name -> (hub id, licence)."""

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

    `summary` is the run's summary.json; without audited accuracy the card says that none was measured.
    """
    base, licence = KNOWN_BASES.get(config.model.path, (config.model.path, None))
    base = _file_name(base)
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
            f"## Limits\n\n{LIMITS}\n",
            f"## Configuration\n\n```yaml\n{_shareable(config)}```\n",
        ]
    )


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


def _shareable(config: RunConfig) -> str:
    """Return the configuration as YAML, without the addresses of machines, local paths cut down to file names."""
    tree = config.model_dump(mode="json", exclude={"server", "ray"})
    for section, key in (
        (tree, "embedder"),
        (tree["model"], "path"),
        (tree["prompts"], "path"),
        (tree["prompts"], "audit"),
    ):
        section[key] = section[key] and _file_name(section[key])
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _file_name(value: str) -> str:
    """Return the name of a local file or folder: that says something, its path is nobody's business."""
    folder = value.removeprefix("hf:")  # a data set's, or its id
    path = Path(folder).expanduser()
    return value.removesuffix(folder) + path.name if path.is_absolute() or path.exists() else value
