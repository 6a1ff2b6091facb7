"""The figures of a preset: one kind a module of this room, found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from ppap.config import Preset
from ppap.report.figures.kind import FigureKind
from ppap.utils.errors import ConfigError


def _kinds() -> Iterator[FigureKind]:
    gathering = importlib.import_module("ppap.workflow.figures")
    names = [found.name for found in pkgutil.iter_modules(__path__, f"{__name__}.")]
    names += [m.name for m in pkgutil.iter_modules(gathering.__path__, f"{gathering.__name__}.")]
    for name in names:
        for thing in vars(importlib.import_module(name)).values():
            mine = isinstance(thing, type) and thing.__module__ == name
            if mine and issubclass(thing, FigureKind) and thing is not FigureKind:
                yield thing()


FIGURES = {kind.name: kind for kind in _kinds()}
"""The kinds, by name."""


def figure_names(preset: Preset) -> list[str]:
    """The figures of a preset."""
    kinds = (kind for kind in FIGURES.values() if kind.table in preset.tables)
    return [kind.title(guide) for kind in kinds for guide in kind.guides(preset)]


def figure_of(preset: Preset, name: str) -> tuple[FigureKind, str]:
    """The kind of a figure, and the guide that it is about ("" if about all); ConfigError if the preset has none such."""
    for kind in FIGURES.values():
        guide = name.removeprefix(kind.name).removeprefix("_")
        if (
            kind.title(guide) == name
            and kind.table in preset.tables
            and guide in kind.guides(preset)
        ):
            return kind, guide
    raise ConfigError(f"no figure '{name}' (there are {', '.join(figure_names(preset))})")
