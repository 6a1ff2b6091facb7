"""The reading of presets; every wrong key is named with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ppap.config.consistency import problems
from ppap.config.preset import Preset
from ppap.utils.errors import ConfigError
from ppap.utils.settings import FOLDER, said_of


class PresetError(ConfigError):
    """A preset that says what cannot be done. `problems` has a line for each thing that is wrong."""

    def __init__(self, source: str | Path, problems: list[str]) -> None:
        self.problems = [f"{source}: {problem}" for problem in problems]
        super().__init__("; ".join(self.problems))


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key that is given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = []
        for key, _ in node.value:
            if key.value in seen:
                twice = f"key '{key.value}' is given twice"
                raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
            seen.append(key.value)
        return node


def load(path: str | Path) -> Preset:
    """Read and validate a preset file; PresetError names the file and every wrong key."""
    try:
        data = yaml.load(Path(path).read_bytes(), _Loader)
    except FileNotFoundError:
        there = "presets lie in config/ of a clone, beside the workflow; any other is named by its path"
        raise PresetError(path, [f"No such file or directory; {there}"]) from None
    except OSError as error:
        raise PresetError(path, [error.strerror or str(error)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise PresetError(path, [f"{place}{error.problem or error.context}"]) from None
    except (yaml.YAMLError, ValueError) as error:  # of bytes that are no text, of numbers
        raise PresetError(path, [f"not YAML: {' '.join(str(error).split())}"]) from None
    return validate(data, path)


def validate(data: Any, source: str | Path) -> Preset:
    """Check a preset that has been read already; `source`, its file, names it in errors."""
    if not isinstance(data, dict):
        raise PresetError(source, ["not a mapping of keys to values"])
    try:
        preset = Preset.model_validate(data, context={FOLDER: Path(source).parent})
    except ValidationError as error:
        raise PresetError(source, [problem for each in error.errors() for problem in said_of(each)]) from None
    if wrong := problems(preset):
        raise PresetError(source, wrong)
    return preset


def find(preset: str) -> Path:
    """Return the file of a preset given by name (config/NAME.yaml) or by path."""
    return Path(preset) if preset.endswith((".yaml", ".yml")) else Path("config", f"{preset}.yaml")


def json_schema() -> str:
    """Return the JSON schema of a preset, as written to workflow/schemas/config.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Preset.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
