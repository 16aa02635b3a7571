"""Loading of the configuration: YAML plus dotted overrides; all errors are in one message.

Precedence: defaults < YAML file < `a.b=c` overrides. Unknown keys are errors. Relative paths in a YAML file are
relative to that file; paths in overrides are relative to the working directory.
"""

import difflib
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .config import RunConfig
from .errors import ConfigError


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a YAML file, apply `a.b=c` overrides (values are YAML) and validate.

    Raises:
        ConfigError: the file is missing or malformed, or keys or values are invalid; the message lists them all.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; configs/quickstart.yaml is one to start from") from None
    except (yaml.YAMLError, ValueError, OSError) as error:  # ValueError: not UTF-8, or an invalid date
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"cannot read {path}: nested too deeply") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}, expected a mapping of sections")
    _anchor_paths(raw, path.parent)
    for override in overrides:
        _apply_override(raw, override)
    return parse_config(raw)


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


def _walk(section: type[BaseModel], prefix: str) -> list[tuple[str, tuple[str, str]]]:
    rows: list[tuple[str, tuple[str, str]]] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += _walk(kind, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else yaml.safe_dump(field.default).split("\n")[0]
            rows.append((prefix + name, (default, field.description or "")))
    return rows


def _explain(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, config_keys(), n=1, cutoff=0.5)
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


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    try:
        value = yaml.safe_load(text)
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
