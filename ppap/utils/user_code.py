"""Code of the user's own: objects in modules beside the preset, or in folders that it states.

A preset that names one is code, as a Makefile is. It can name nothing else: a module of the standard library or of an
installed package is never found. In Python, where no folders are stated, names are found as `import` finds them.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
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

    The module lies in one of the `folders`; without any, in the current folder or on sys.path. ConfigError if none
    holds it, or it has no such object: it says `what` is named, such as a model, and what NAME was `expected` to be,
    such as a function. What the module itself raises comes as it is.
    """
    if not is_well_named(text):
        raise ConfigError(f"{what} '{text}': write user:MODULE.{expected.upper()}")
    module, _, name = text.removeprefix(PREFIX).rpartition(".")
    path = module_file(text, folders)
    if path is None:
        places, file = ", ".join(map(str, folders)), module.replace(".", "/")
        where = f"{places}; state other folders under `modules`" if folders else "the current folder or sys.path"
        raise ConfigError(f"{what} '{text}': there is no {file}.py, nor {file}/__init__.py, in {where}")
    with on_path(folders or [Path.cwd()]):
        imported = importlib.import_module(module)
    if path.resolve() != Path(imported.__file__ or "").resolve():
        raise ConfigError(f"{what} '{text}': {path} has the name of another module; rename it")
    named = getattr(imported, name, None)
    if not callable(named):
        raise ConfigError(f"{what} '{text}': {module} has no {expected} '{name}'")
    return named


def check_options(what: str, named: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a class or a function takes these arguments by name."""
    try:
        inspect.signature(named).bind_partial(**options)
    except TypeError as error:
        raise ConfigError(f"{what}: options: {error}") from None


def module_file(text: str, folders: Sequence[Path]) -> Path | None:
    """Find the file of the module in user:MODULE.NAME (see `find`), which is not imported; None if there is none."""
    importlib.invalidate_caches()  # it may have been written since the folder was last looked at
    places, origin = list(map(str, folders)) or [str(Path.cwd()), *sys.path], None
    for name in text.removeprefix(PREFIX).split(".")[:-1]:
        spec = PathFinder.find_spec(name, places)
        if spec is None or spec.origin is None:
            return None
        origin, places = Path(spec.origin), list(spec.submodule_search_locations or ())
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
