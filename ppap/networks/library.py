"""Facts that a library states of its pretrained models: where the weights lie, and what they expect as input."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

from ppap.errors import ModelError, PPAPError
from ppap.preset import Download, NetworkConfig


class Pretrained(NamedTuple):
    """Weights of a library: their file (if there are any), the input they are for (mean and std in [0, 1]),
    their classes."""

    source: Download | None
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    classes: int


class Input(NamedTuple):
    """Pixels a side that a network sees, and the normalisation of its input, for pixels in [0, 1]."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@contextlib.contextmanager
def building(model: str) -> Iterator[None]:
    """Name the model in whatever its code raises, which is kept as the error's cause."""
    try:
        yield
    except PPAPError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"model '{model}': cannot be built ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """An error on one line, not a long one."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def module_of(model: str) -> tuple[ModuleType, str]:
    """Our module for the library of LIBRARY:NAME, and NAME."""
    library, _, name = model.partition(":")
    return importlib.import_module(f"ppap.networks.{library}_models"), name


def pretrained(model: str) -> Pretrained:
    """What the library says of LIBRARY:NAME; ConfigError if it has no such weights."""
    module, name = module_of(model)
    return module.pretrained(name)


def has_library_weights(spec: NetworkConfig) -> bool:
    return spec.train is None and not spec.model.startswith("user:")


def input_of(spec: NetworkConfig) -> Input:
    """The input of a preset's network: what the preset says, else what goes with its weights."""
    if spec.input_size and spec.mean and spec.std:
        return Input(spec.input_size, spec.mean, spec.std)
    if has_library_weights(spec):
        known = pretrained(spec.model)
        size, mean, std = known.input_size, known.mean, known.std
    else:
        size, mean, std = 0, (0.5,), (0.5,)
    return Input(spec.input_size or size, spec.mean or mean, spec.std or std)
