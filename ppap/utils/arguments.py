"""Arguments of public functions, held to their annotations, and what the user's own code returns to its shape."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import TypeAdapter
from torch import Tensor

from ppap.utils.errors import ConfigError
from ppap.utils.settings import Section, named_errors

Public = TypeVar("Public", bound=Callable[..., Any])
_SHORTER = (  # a type, as an error says it
    (r"(\w+\.)+(?=\w)", ""),
    (r"\[tuple\[.*?\], dtype\[(\w+)\]\]", r" of \1"),
    (r"Annotated\[(\w+), FieldInfo\(.*?\[(\w+\()?(.*?)\).*?\]\)\]", r"\1 (\3)"),
    (r" \| ", " or "),
)


def checked(public: Public) -> Public:
    """Have a public function or class refuse an argument that is not of its annotation: a ConfigError that names it.

    A mapping in place of a section becomes one: `training={"steps": 5}`. The check is done once a call, so that what
    is called in loops goes without.
    """
    if isinstance(public, type):
        wrap = _named if issubclass(public, Section) else checked
        public.__init__ = wrap(public.__init__)  # type: ignore[misc]
        return public
    signature = inspect.signature(public)

    @functools.cache
    def hints() -> dict[str, Any]:
        names = vars(builtins) | vars(sys.modules[public.__module__])
        return get_type_hints(public, localns=_Names(names), include_extras=True)

    @functools.wraps(public)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            bound = signature.bind(*arguments, **named)
        except TypeError:
            return public(*arguments, **named)  # which says in its own words what is missing, or too much
        for name, value in bound.arguments.items():
            bound.arguments[name] = _fitted(name, value, hints().get(name, Any))
        return public(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


def check_own_options(what: str, named: Any, options: Mapping[str, Any]) -> None:
    """Raise ConfigError unless these are arguments that a class or function takes by name alone, and of its annotations."""
    parameters = inspect.signature(named).parameters.values() if callable(named) else ()
    own = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    if not own:
        raise ConfigError(f"{what}: takes no options")
    hints = get_type_hints(named, include_extras=True)
    for name, value in options.items():
        if name not in own:
            raise ConfigError(f"{what}: takes no option '{name}' (it takes {', '.join(own)})")
        _fitted(f"{what}: options: {name}", value, hints[name])


def _named(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def call(*arguments: Any, **values: Any) -> None:
        with named_errors():
            init(*arguments, **values)

    return call


class _Names(dict[str, Any]):
    """The names in annotations; what only type checkers import may be anything."""

    def __missing__(self, name: str) -> Any:
        return Any


def _fitted(name: str, value: Any, hint: Any) -> Any:
    """Return the value, or the section that a mapping is; ConfigError, with the argument's name, unless it fits."""
    sections = [part for part in (hint, *get_args(hint)) if isinstance(part, type) and issubclass(part, Section)]
    if isinstance(value, Mapping) and sections:
        with named_errors(f"{name}."):
            return sections[0].model_validate(dict(value))
    if get_origin(hint) is Annotated and _fits(value, get_args(hint)[0]):
        return _within(name, value, hint)
    if _fits(value, hint):
        return value
    said = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    for long, short in _SHORTER:
        said = re.sub(long, short, said)
    raise ConfigError(f"{name}: {shown(value)}; {said} was expected")


def _within(name: str, value: Any, hint: Any) -> Any:
    """Return the number as Python's own; ConfigError unless it is as large as it may be."""
    with named_errors(f"{name}: "):
        return TypeAdapter(hint).validate_python(value.item() if isinstance(value, np.generic) else value)


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Any:
        return True
    if kind is Annotated:
        with contextlib.suppress(ConfigError):
            return _fits(value, parts[0]) and _within("", value, hint) is not None
        return False
    if kind in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return any(value is part or (isinstance(value, str) and value == part) for part in parts)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if kind is type:
        return isinstance(value, type | functools.partial)
    if kind is np.ndarray:
        (number,) = get_args(parts[1])
        return isinstance(value, np.ndarray) and (number is Any or issubclass(value.dtype.type, number))
    if kind is tuple and ... not in parts:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if kind is Sequence and isinstance(value, np.ndarray | Tensor):
        return value.ndim > 0
    if kind in (Sequence, tuple, list):
        return isinstance(value, kind) and not isinstance(value, str) and all(_fits(v, parts[0]) for v in value)
    return isinstance(value, kind)


def shown(value: Any) -> str:
    """Say what a value is, in a few words."""
    if isinstance(value, np.ndarray | Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    simple = value is None or isinstance(value, str | int | float)
    return f"{value!r:.60} ({type(value).__name__})" if simple else f"a {type(value).__name__}"


def has_shape(what: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless a value is a tensor of this shape; `what` returned it."""
    if not isinstance(value, Tensor) or value.shape != shape:
        raise ConfigError(f"{what} gives {shown(value)}; a tensor {shape} was expected")
