"""Models of the user's own: functions in modules beside the preset, or in folders that it states.

A preset that names one is code, as a Makefile is. Nothing else can be named: a module of the standard library
or of an installed package is never found here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from torch import nn

from ppap.errors import ModelError
from ppap.networks.library import building


def build(
    name: str, channels: int, classes: int, options: dict[str, Any], folders: Sequence[Path]
) -> nn.Module:
    """What the function MODULE.FUNCTION in one of the folders returns for `options`.

    It is given `channels` and `classes` if it has arguments of these names. ModelError if there is no such
    function, it fails, or it returns no network.
    """
    model = f"user:{name}"
    given = {"channels": channels, "classes": classes}
    with building(model), _on_path(folders):
        function = _function(name, folders)
        wanted = inspect.signature(function).parameters
        network = function(**{k: v for k, v in given.items() if k in wanted}, **options)
    if not isinstance(network, nn.Module):
        found = (
            f"the class {network.__name__}"
            if isinstance(network, type)
            else repr(type(network).__name__)
        )
        raise ModelError(f"model '{model}': returns {found}; a torch.nn.Module was expected")
    return network


def _function(name: str, folders: Sequence[Path]) -> Callable[..., Any]:
    """The function, from its module, which is imported if it was not before."""
    module, _, function = name.rpartition(".")
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ModelError(f"model 'user:{name}': write user:MODULE.FUNCTION")
    _import_from(parts[0], name, folders)
    found = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise ModelError(f"model 'user:{name}': {module} has no function '{function}'")
    return found


def _import_from(module: str, name: str, folders: Sequence[Path]) -> None:
    """Import a module from exactly these folders. ModelError if it is not there, or another has its name."""
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(module, [str(folder) for folder in folders])
    if spec is None or spec.loader is None or spec.origin is None:
        places = ", ".join(map(str, folders)) or "the preset's folder"
        raise ModelError(
            f"model 'user:{name}': there is no {module}.py, nor {module}/__init__.py, in {places}; "
            "state other folders under `modules`"
        )
    known = sys.modules.get(module)
    if known is None:
        _execute(spec)
    elif getattr(known.__spec__, "origin", None) != spec.origin:
        raise ModelError(
            f"model 'user:{name}': {spec.origin} has the name of another module; rename it"
        )


def _execute(spec: ModuleSpec) -> None:
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise


@contextlib.contextmanager
def _on_path(folders: Sequence[Path]) -> Iterator[None]:
    """Let the user's modules import one another; what is installed comes first."""
    before = list(sys.path)
    sys.path.extend(map(str, folders))
    try:
        yield
    finally:
        sys.path[:] = before
