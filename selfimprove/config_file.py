"""Loading of the configuration: YAML plus dotted overrides; all errors are in one message.

Precedence: defaults < YAML file < `a.b=c` overrides. Unknown keys are errors. Relative paths in a YAML file are
relative to that file; paths in overrides are relative to the working directory.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .config import RunConfig
from .errors import ConfigError, UserError


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that a mapping has twice: the first of them would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:  # as written: what << merges comes in later
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(f"{key.value} stands in line {lines[name]} and again in line {line}; join them")
            lines[name] = line
        return node


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def load_config(
    path: str | Path, overrides: tuple[str, ...] = (), missing: Mapping[str, object] | None = None
) -> RunConfig:
    """Read a YAML file, apply `a.b=c` overrides (values are YAML) and validate.

    `missing` has values, by dotted key, for settings that the file lacks, in place of their defaults.

    Raises:
        ConfigError: the file is missing or malformed, or keys or values are invalid; the message lists them all.
    """
    path = Path(path)
    try:
        raw = _yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; configs/quickstart.yaml is one to start from") from None
    except (yaml.YAMLError, ValueError, OSError) as error:  # ValueError: not UTF-8, or an invalid date
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"cannot read {path}: nested too deeply") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}, expected a mapping of sections")
    _anchor_paths(raw, path.parent)
    fill(raw, missing or {})
    for override in overrides:
        apply_override(raw, override)
    return parse_config(raw)


def fill(raw: dict[str, Any], values: Mapping[str, object]) -> None:
    """Set those of `values`, by dotted key, that a nested dict of settings lacks."""
    for key, value in values.items():
        *parents, last = key.split(".")
        node: Any = raw
        for part in parents:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.setdefault(last, value)


def parse_config(raw: dict[str, Any]) -> RunConfig:
    """Validate a nested dict of settings.

    Raises:
        ConfigError: keys or values are invalid; one clause for each, with a suggestion for an unknown key.
    """
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        faults = [_explain(fault) for fault in error.errors()]
        raise ConfigError(f"{len(faults)} fault(s) in the configuration: " + "; ".join(faults)) from None


def config_keys() -> dict[str, tuple[str, str]]:
    """Return (default, description) of every dotted key, for `selfimprove explain` and docs/configuration.md."""
    return dict(_walk(RunConfig, ""))


def config_values() -> dict[str, str]:
    """Return what every dotted key may be set to, in words: `sft | preference`, `whole number, at least 1`."""
    return {key: _allowed(field) for key, field in _fields(RunConfig, "")}


def suggestions(key: str, limit: int = 5) -> list[str]:
    """Return the keys that somebody who wrote `key` may have meant, the likeliest first.

    These are keys with the same last part (`lr`), keys whose name or description has all its words (`learning_rate`),
    and keys that are spelt alike.
    """
    keys = config_keys()
    leaf = key.rpartition(".")[2]
    words = re.findall(r"[a-z0-9]+", leaf.lower())
    same = [known for known in keys if known.rpartition(".")[2] == leaf]
    told = {known: re.findall(r"[a-z0-9]+", f"{known} {text}".lower()) for known, (_, text) in keys.items()}
    described = [known for known in keys if words and all(word in told[known] for word in words)]
    alike = difflib.get_close_matches(key, keys, n=3, cutoff=0.5)
    return list(dict.fromkeys([*same, *described, *alike]))[:limit]


def _walk(section: type[BaseModel], prefix: str) -> list[tuple[str, tuple[str, str]]]:
    return [
        (key, ("required" if field.is_required() else _yaml_line(field.default), field.description or ""))
        for key, field in _fields(section, prefix)
    ]


def _fields(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for attribute, field in section.model_fields.items():
        name, kind = field.alias or attribute, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _yaml_line(value: Any) -> str:
    return yaml.safe_dump(value).split("\n")[0]


def _allowed(field: FieldInfo) -> str:
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    return " | ".join(_allowed_kind(kind, field.metadata) for kind in kinds)


def _allowed_kind(kind: Any, limits: Sequence[Any]) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(_yaml_line, get_args(kind)))
    if kind is bool:
        return "true | false"
    if kind is NoneType:
        return "null"
    names = {int: "whole number", float: "number", str: "text", tuple: "list", list: "list", dict: "mapping"}
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [
        f"{word} {getattr(limit, name):g}" for limit in limits for name, word in words.items() if hasattr(limit, name)
    ]
    kind = get_origin(kind) or kind
    return ", ".join([names.get(kind, kind.__name__), *bounds])


def _explain(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        close = suggestions(key, 1)
        return f"unknown key {key}" + (f", did you mean {close[0]}?" if close else "; see docs/configuration.md")
    if fault["type"] == "missing":
        return f"{key} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "string_type" and isinstance(fault["input"], date | int | float):
        value = fault["input"]
        return f"{key} = {value}: YAML does not read text; quote it, on a command line '{key}=\"{value}\"'"
    return f"{key} = {fault['input']!r}: {message}" if key else message


def _anchor_paths(raw: dict[str, Any], folder: Path) -> None:
    """Resolve relative paths in the YAML against the folder of the YAML file, if such a file exists there."""
    prompts, model = raw.get("prompts"), raw.get("model")
    for section, key in ((prompts, "path"), (prompts, "audit"), (model, "path"), (raw, "embedder")):
        if isinstance(section, dict):
            value = section.get(key)
            if isinstance(value, str) and (folder / value).exists() and not Path(value).is_absolute():
                section[key] = str(folder / value)
    vote = raw.get("vote")
    if isinstance(vote, dict) and isinstance(vote.get("reader"), str):
        file, colon, name = vote["reader"].rpartition(":")
        if file and (folder / file).is_file() and not Path(file).is_absolute():
            vote["reader"] = f"{folder / file}{colon}{name}"


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in a nested dict of settings; the value is YAML.

    Raises:
        ConfigError: it is not of that form.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    try:
        value = _yaml(text)
    except (yaml.YAMLError, ValueError):  # ValueError: an invalid date
        raise ConfigError(f"override {override!r}: the value is not valid YAML; quote it") from None
    node = raw
    *parents, last = key.split(".")
    for part in parents:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {part} is not a section")
    node[last] = value


def to_yaml(config: RunConfig) -> str:
    """Return the complete configuration as YAML; `load_config` reads it back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shareable_yaml(config: RunConfig) -> str:
    """Return the settings that may be sent to others, as YAML."""
    return yaml.safe_dump(shareable(config), sort_keys=False, allow_unicode=True)


def shareable(config: RunConfig) -> dict[str, Any]:
    """Return the settings that may be sent to others: no addresses of machines, of local paths the file names alone."""
    tree = config.model_dump(mode="json", exclude={"server", "ray"})
    for section, key in (
        (tree, "embedder"),
        (tree["model"], "path"),
        (tree["prompts"], "path"),
        (tree["prompts"], "audit"),
        (tree["vote"], "reader"),
        (tree["memory"], "from"),
    ):
        section[key] = section[key] and file_name(section[key])
    return tree


def expanded(path: str | Path) -> Path:
    """Return a path with the home directory for its `~`.

    Raises:
        UserError: nobody has that home directory (Excel's lock files begin with `~$`), or it holds a null byte.
    """
    if "\0" in str(path):
        raise UserError(f"{str(path)!r} is no path: it holds a null byte; write another one")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{str(path)!r} begins with the home directory of nobody here; write the whole path") from None


def file_name(value: str) -> str:
    """Return the name of a local file or folder: that says something, its path is nobody's business."""
    folder = value.removeprefix("hf:")  # a data set's, or its id
    path = expanded(folder)
    return value.removesuffix(folder) + path.name if path.is_absolute() or path.exists() else value
