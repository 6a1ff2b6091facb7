"""The code of the libraries of guides, loaded when a preset names one, and what it says of pretrained weights."""

from __future__ import annotations

import contextlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ppap.errors import ConfigError, ModelError, PPAPError
from ppap.preset import Download, NetworkConfig
from ppap.preset.sections.libraries import library_of
from ppap.tasks.kinds import CLASSIFICATION


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


class Shape(NamedTuple):
    """Channels of the images that a network sees; its task, and how many numbers it gives: classes, labels of a pixel."""

    channels: int
    classes: int
    task: str = CLASSIFICATION


class LibraryCode(ABC):
    """The code of a library (see `ppap.preset.sections.libraries.LIBRARIES`). A model's `name` is what stands after LIBRARY:."""

    @abstractmethod
    def build(
        self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]
    ) -> nn.Module:
        """The model with untrained weights; `options` are arguments of its class.

        The user's own modules lie in `folders`. ConfigError if there is no such model; what the model's own code
        raises comes as it is.
        """

    def pretrained(self, name: str) -> Pretrained:
        """What the library says of the model's weights; ConfigError if it has no such weights."""
        raise ConfigError(f"model '{name}': its library publishes no weights")

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        """The model with weights from a file in the library's format; DataError if they are others."""
        raise ConfigError(f"model '{name}': its library publishes no weights")


def code_of(model: str) -> tuple[LibraryCode, str]:
    """The code of the library of LIBRARY:NAME, and NAME."""
    code: LibraryCode = pkgutil.resolve_name(f"ppap.networks.libraries.{library_of(model).code}")()
    return code, model.partition(":")[2]


def build_network(
    model: str, options: dict[str, Any], shape: Shape, folders: Sequence[Path] = ()
) -> nn.Module:
    """The network named LIBRARY:NAME, with untrained weights.

    `options` go to the model's class, after channels and classes in the library's own words. The user's modules lie
    in `folders` (see `Preset.module_folders`). ConfigError or ModelError if there is no such model, or it does not
    take these options.
    """
    code, name = code_of(model)
    with _building(model):
        return code.build(name, shape, options, folders)


def load_pretrained(spec: NetworkConfig, shape: Shape, weights: Path) -> nn.Module:
    """A library's network with the weights in a file of the library's format; DataError if they are others."""
    code, name = code_of(spec.model)
    with _building(spec.model):
        return code.load(name, shape, spec.options, weights)


def pretrained(model: str) -> Pretrained:
    """What the library says of LIBRARY:NAME; ConfigError if it has no such weights."""
    code, name = code_of(model)
    return code.pretrained(name)


def published(known: Pretrained, model: str, key: str, classes: int) -> Download:
    """Where the library keeps the weights, if it has any and they tell the preset's classes apart."""
    if known.source is None:
        raise ConfigError(f"{key}: there are no weights of {model}; give `train` or `weights`")
    if known.classes != classes:
        raise ConfigError(
            f"{key}: the weights of {model} know {known.classes} classes, the preset has {classes}"
        )
    return known.source


def input_of(spec: NetworkConfig) -> Input:
    """The input of a preset's network: what the preset says, else what goes with its weights."""
    size, mean, std = spec.input_size, spec.mean, spec.std
    if size and mean and std:
        return Input(size, mean, std)
    if spec.published:
        known = pretrained(spec.model)
        return Input(size or known.input_size, mean or known.mean, std or known.std)
    return Input(size or 0, mean or (0.5,), std or (0.5,))


def reason(error: BaseException) -> str:
    """An error on one line, not a long one."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextlib.contextmanager
def _building(model: str) -> Iterator[None]:
    """Name the model in whatever its code raises, which is kept as the error's cause."""
    try:
        yield
    except PPAPError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"model '{model}': cannot be built ({reason(error)})") from error
