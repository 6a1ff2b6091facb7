"""Words that a shell completes: presets, and the names that a preset gives its guides, samplers, methods and so on.

No code of a user's own is run while a word is being typed, and what is wrong with a preset goes unsaid.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer
import yaml

from ppap import config as presets
from ppap.report.figures import figure_names as names_of_figures
from ppap.utils.errors import ConfigError
from ppap.utils.settings import UNGUIDED

Completer = Callable[[typer.Context, str], list[str]]

_IS_PRESET = re.compile(rb"^diffusion:", re.MULTILINE)
_RUNS_CODE = re.compile(rb"\b(kind|guidance|task):\s*[\"']?user:")


def preset_names(incomplete: str) -> list[str]:
    """Presets in config/; paths of others are completed by the shell itself."""
    found = sorted(
        path for path in Path("config").glob("*.yaml") if _IS_PRESET.search(_content(path))
    )
    return _starting((path.stem for path in found), incomplete)


def names_in(section: str, *others: str) -> Completer:
    """The keys of a section of the preset that was named before."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return _starting([*_section(_content(_named(context)), section), *others], incomplete)

    return complete


def figure_names(context: typer.Context, incomplete: str) -> list[str]:
    """Figures of the preset that was named before."""
    path = _named(context)
    if _RUNS_CODE.search(_content(path)):
        return []
    with contextlib.suppress(ConfigError):
        return _starting(names_of_figures(presets.load(path)), incomplete)
    return []


def _named(context: typer.Context) -> Path:
    """The preset's file. An option whose value is being typed keeps the arguments before it from being told apart."""
    named = context.params.get("preset") or next(iter(context.args), "")
    return presets.find(str(named))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _section(content: bytes, name: str) -> Iterable[str]:
    with contextlib.suppress(yaml.YAMLError):
        found: Any = yaml.safe_load(content)
        section = found.get(name) if isinstance(found, dict) else None
        return section if isinstance(section, dict) else ()
    return ()


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in map(str, words) if word.startswith(incomplete)]


guide_names = names_in("guides")
guided_names = names_in("guides", UNGUIDED)
sampler_names, method_names, table_names = map(names_in, ("samplers", "methods", "tables"))
