"""Code of the user's own: objects in modules beside the preset, or in folders that it states.

A preset that names one is code, as a Makefile is. Nothing else can be named: a module of the standard library
or of an installed package is never found here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from ppap.utils.errors import ConfigError

PREFIX = "user:"
PATTERN = r"^user:[^\W\d]\w*(\.[^\W\d]\w*)+$"  # also valid in a JSON schema


def is_named(text: str) -> bool:
    """Say whether a preset's `text` names code of the user's own, rightly written or not."""
    return text.startswith(PREFIX)


def is_well_named(text: str) -> bool:
    """Say whether it is of the form user:MODULE.NAME."""
    return re.fullmatch(PATTERN, text) is not None


def find(text: str, what: str, expected: str, folders: Sequence[Path]) -> Any:
    """Look up the object that `text` (user:MODULE.NAME) names in its module, which is imported if it was not before.

    ConfigError if no folder holds the module, or it has no such object: it says `what` is named, such as a
    model, and what NAME was `expected` to be, such as a function. What the module itself raises comes as it is.
    """
    if not is_well_named(text):
        raise ConfigError(f"{what} '{text}': write user:MODULE.{expected.upper()}")
    module, _, name = text.removeprefix(PREFIX).rpartition(".")
    with on_path(folders):
        _import_from(module.partition(".")[0], f"{what} '{text}'", folders)
        named = getattr(importlib.import_module(module), name, None)
    if not callable(named):
        raise ConfigError(f"{what} '{text}': {module} has no {expected} '{name}'")
    return named


def module_file(text: str, folders: Sequence[Path]) -> Path | None:
    """Find the file of the module in user:MODULE.NAME, which is not imported; None if no folder holds it."""
    *names, _ = text.removeprefix(PREFIX).split(".")
    places: Sequence[str] | None = [str(folder) for folder in folders]
    origin = None
    for name in names:
        spec = PathFinder.find_spec(name, places)
        if spec is None or spec.origin is None:
            return None
        origin, places = Path(spec.origin), spec.submodule_search_locations
    return origin


@contextlib.contextmanager
def on_path(folders: Sequence[Path]) -> Iterator[None]:
    """Let the user's modules import one another; what is installed comes first."""
    before = list(sys.path)
    sys.path.extend(map(str, folders))
    try:
        yield
    finally:
        sys.path[:] = before


def _import_from(module: str, named: str, folders: Sequence[Path]) -> None:
    """Import a module from exactly these folders. ConfigError if it is not there, or another has its name."""
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(module, [str(folder) for folder in folders])
    if spec is None or spec.loader is None or spec.origin is None:
        places = ", ".join(map(str, folders)) or "the preset's folder"
        raise ConfigError(
            f"{named}: there is no {module}.py, nor {module}/__init__.py, in {places}; "
            "state other folders under `modules`"
        )
    known = sys.modules.get(module)
    if known is None:
        _execute(spec)
    elif not _is_same(getattr(known.__spec__, "origin", None), spec.origin):
        raise ConfigError(f"{named}: {spec.origin} has the name of another module; rename it")


def _is_same(known: str | None, path: str) -> bool:
    """Say whether two paths lead to one file, however they are written."""
    return known is not None and Path(known).resolve() == Path(path).resolve()


def _execute(spec: ModuleSpec) -> None:
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
