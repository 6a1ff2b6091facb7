"""Words that a shell completes: presets, and the names that a preset gives its guides, samplers, methods and so on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

Completer = Callable[[typer.Context, str], list[str]]


def preset_names(incomplete: str) -> list[str]:
    """List the presets in config/; paths of others are completed by the shell itself."""
    paths = sorted(Path("config").glob("*.yaml"))
    return [p.stem for p in paths if p.stem.startswith(incomplete) and "diffusion" in _read(p)]


def names_in(section: str, *others: str) -> Completer:
    """Complete by the keys of a section of the preset that was named before."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        # an option whose value is being typed keeps the arguments before it from being told apart
        preset = str(context.params.get("preset") or next(iter(context.args), ""))
        path = Path(preset) if preset.endswith((".yaml", ".yml")) else Path(f"config/{preset}.yaml")
        keys = [*(_read(path).get(section) or ()), *others]
        return [key for key in map(str, keys) if key.startswith(incomplete)]

    return complete


def _read(path: Path) -> dict[str, Any]:
    """Read a preset as plain YAML; nothing, if it is none."""
    import yaml

    with contextlib.suppress(OSError, yaml.YAMLError):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


guide_names = names_in("guides")
guided_names = names_in("guides", "unguided")
sampler_names, method_names, table_names = map(names_in, ("samplers", "methods", "tables"))
