"""Reading presets; every wrong key is named with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ppap.config.networks import TAG
from ppap.config.preset import Config
from ppap.errors import ConfigError


def load(path: str | Path) -> Config:
    """Read and validate a preset file; ConfigError names the file and every wrong key."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return validate(data, path)


def validate(data: Any, source: str | Path) -> Config:
    """Check a preset that has been read already; `source` names it in errors."""
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: not a mapping of keys to values")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{source}: {_describe(e)}" for e in error.errors())) from None


def _describe(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if not str(part).startswith(TAG))
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def find(preset: str) -> Path:
    """The file of a preset given by name (config/NAME.yaml) or by path."""
    return Path(preset) if preset.endswith((".yaml", ".yml")) else Path("config", f"{preset}.yaml")


def json_schema() -> str:
    """The JSON schema of a preset, as written to workflow/schemas/config.schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"
