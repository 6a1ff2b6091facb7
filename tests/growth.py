"""The smoke preset with kinds from outside the package: the code and the keys that docs/extending.md shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, SMOKE

_PAGE = ROOT / "docs" / "extending.md"


def grown_preset(folder: Path, title: str, name: str = "smoke", base: Path = SMOKE) -> Path:
    """Write the modules and the preset (NAME.yaml) of a section of the page into a folder; the preset's path."""
    preset = yaml.safe_load(base.read_text())
    for language, text in code_of(title):
        if language == "python" and text.startswith("# "):
            (folder / text.split("\n")[0].removeprefix("# ")).write_text(text)
        elif language == "yaml":
            _grow(preset, yaml.safe_load(text))
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(preset, sort_keys=False))
    return path


def code_of(title: str) -> list[tuple[str, str]]:
    """The blocks of code of a section of the page, with their language."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", _PAGE.read_text(), re.M | re.S)
    assert section is not None, f"{_PAGE} has no section '{title}'"
    return re.findall(r"^```(\w+)\n(.*?)^```$", section[1], re.M | re.S)


def _grow(preset: dict[str, Any], more: dict[str, Any]) -> None:
    """Add keys and entries of lists; other values, and sections of another kind, replace what is there."""
    for key, value in more.items():
        if isinstance(value, dict) and key in preset and "kind" not in value:
            _grow(preset[key], value)
        elif isinstance(value, list) and key in preset:
            preset[key] += value
        else:
            preset[key] = value
