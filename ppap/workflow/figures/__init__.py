"""The figures of a preset: one kind a module of this folder, found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

from ppap.config.preset import Preset
from ppap.report import figures as drawn
from ppap.utils.errors import ConfigError
from ppap.workflow.figures.kind import FigureKind


@cache
def kinds() -> dict[str, FigureKind]:
    """Return the kinds by name."""
    return {kind.name: kind for kind in sorted(_kinds(), key=lambda kind: kind.name)}


def _kinds() -> Iterator[FigureKind]:
    for package in (__name__, drawn.__name__):
        places = importlib.import_module(package).__path__
        for module in pkgutil.iter_modules(places, f"{package}."):
            for thing in vars(importlib.import_module(module.name)).values():
                mine = isinstance(thing, type) and thing.__module__ == module.name
                if mine and issubclass(thing, FigureKind) and thing is not FigureKind:
                    yield thing()


def figure_names(preset: Preset) -> list[str]:
    """List the figures of a preset."""
    known = (kind for kind in kinds().values() if kind.table in preset.tables)
    return [kind.title(guide) for kind in known for guide in kind.guides(preset)]


def figure_of(preset: Preset, name: str) -> tuple[FigureKind, str]:
    """Return a figure's kind, and the guide that it is about ("" if about all); ConfigError if there is none such."""
    for kind in kinds().values():
        guide = name.removeprefix(kind.name).removeprefix("_")
        if kind.title(guide) == name and kind.table in preset.tables and guide in kind.guides(preset):
            return kind, guide
    raise ConfigError(f"no figure '{name}' (there are {', '.join(figure_names(preset))})")
