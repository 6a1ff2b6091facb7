"""The reading of presets; every wrong key is named with its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ppap.config import yaml_values
from ppap.config.preset import FOLDER, Preset
from ppap.evaluation.evaluators import TAG
from ppap.utils.errors import ConfigError
from ppap.utils.settings import Section

S = TypeVar("S", bound=Section)


class PresetError(ConfigError):
    """A preset that says what cannot be done. `problems` has a line for each thing that is wrong."""

    def __init__(self, source: str | Path, problems: list[str]) -> None:
        self.problems = [f"{source}: {problem}" for problem in problems]
        super().__init__("; ".join(self.problems))


def load(path: str | Path) -> Preset:
    """Read and validate a preset file; PresetError names the file and every wrong key."""
    try:
        data = yaml_values.read(yaml_values.content(Path(path)))
    except OSError as error:
        raise PresetError(path, [error.strerror or str(error)]) from None
    except ValueError as error:
        raise PresetError(path, [str(error)]) from None
    return validate(data, path)


def validate(data: Any, source: str | Path) -> Preset:
    """Check a preset that has been read already; `source`, its file, names it in errors."""
    if not isinstance(data, dict):
        raise PresetError(source, ["not a mapping of keys to values"])
    try:
        return Preset.model_validate(data, context={FOLDER: Path(source).parent})
    except ValidationError as error:
        found = [problem for each in error.errors() for problem in _describe(each)]
        raise PresetError(source, found) from None


def section(kind: type[S], about: dict[str, Any]) -> S:
    """A section of a preset by itself, of what its keys are to say; ConfigError names what is wrong."""
    try:
        return kind.model_validate(about)
    except ValidationError as error:
        found = [problem for each in error.errors() for problem in _describe(each)]
        raise ConfigError("; ".join(found)) from None


def _describe(error: Any) -> Iterator[str]:
    """What is wrong, a line each: a rule between sections may find several things at once."""
    key = ".".join(
        str(part) for part in error["loc"] if not str(part).startswith(TAG) and part != "[key]"
    )
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    elif error["type"] in ("model_type", "dict_type"):
        message = "not a mapping of keys to values"
    elif error["type"] == "union_tag_invalid":
        key, message = f"{key}.kind", f"one of {error['ctx']['expected_tags'].replace(TAG, '')}"
    for line in message.splitlines():
        yield f"{key}: {line}" if key else line


def find(preset: str) -> Path:
    """The file of a preset given by name (config/NAME.yaml) or by path."""
    return Path(preset) if preset.endswith((".yaml", ".yml")) else Path("config", f"{preset}.yaml")


def json_schema() -> str:
    """The JSON schema of a preset, as written to workflow/schemas/config.schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Preset.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"
