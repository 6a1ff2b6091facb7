"""The code of the libraries of guides, loaded when a preset names one, and what it says of pretrained weights."""

from __future__ import annotations

import contextlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ppap.data.downloads import Downloads
from ppap.data.settings import Download
from ppap.guides.libraries.kinds import library_of
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.tasks.kinds import CLASSIFICATION, DEPTH, SEGMENTATION
from ppap.utils.errors import ConfigError, ModelError, PPAPError
from ppap.utils.weights import provenance


class Pretrained(NamedTuple):
    """Weights of a library: their file (if there are any), the input they are for (mean and std in [0, 1]),
    their classes."""

    source: Download | None
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    classes: int
    task: str = CLASSIFICATION


class Input(NamedTuple):
    """Pixels a side that a network sees, and the normalisation of its input, for pixels in [0, 1]."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Shape(NamedTuple):
    """Channels of the images that a network sees, and what it answers.

    `classes` numbers an image, or for segmentation a pixel; for depth one number a pixel (B, H, W).
    """

    channels: int
    classes: int
    task: str = CLASSIFICATION


class LibraryCode(ABC):
    """The code of a library (see `ppap.guides.libraries.kinds.LIBRARIES`). A model's `name` is what stands after LIBRARY:."""

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

    def known(self, spec: NetworkConfig, file: Path) -> bool:
        """Whether it shows what the preset's network is; `file` is the workflow's, which may not be there yet."""
        return True

    def options(self, spec: NetworkConfig, file: Path) -> dict[str, Any]:
        """The arguments of the model's class; DataError if only `file` says them, and it is not there."""
        return spec.options

    def input(self, spec: NetworkConfig, file: Path) -> Input:
        """What goes with published weights, but for what the preset says."""
        if spec.input_size and spec.mean and spec.std:
            return Input(spec.input_size, spec.mean, spec.std)
        known = self.pretrained(_name(spec))
        return Input(
            spec.input_size or known.input_size, spec.mean or known.mean, spec.std or known.std
        )

    def check(self, spec: NetworkConfig, shape: Shape, key: str) -> None:
        """ConfigError unless the preset's published weights exist, as far as it is known before any download."""
        known = self.pretrained(_name(spec))
        if spec.weights is None:
            published(known, spec.model, key, shape)

    def download(
        self, spec: NetworkConfig, shape: Shape, key: str, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The published weights, and metadata about them.

        DataError if they cannot be had, or are not what they should be; ConfigError if they do not fit the preset.
        """
        known = self.pretrained(_name(spec))
        wanted = spec.weights or published(known, spec.model, key, shape)
        names = {"class_names": json.dumps(known.class_names)} if known.class_names else {}
        with downloads.file(wanted) as path:
            network = load_pretrained(spec, shape, path)
            return network.state_dict(), provenance(path) | names


def code_of(model: str) -> tuple[LibraryCode, str]:
    """The code of the library of LIBRARY:NAME, and NAME."""
    code: LibraryCode = pkgutil.resolve_name(f"ppap.guides.libraries.{library_of(model).code}")()
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


def published(known: Pretrained, model: str, key: str, shape: Shape) -> Download:
    """Where the library keeps the weights, if it has any and they answer as the preset needs it."""
    if known.source is None:
        raise ConfigError(f"{key}: there are no weights of {model}; give `train` or `weights`")
    refuse_task(model, shape.task, known.task)
    if known.classes != shape.classes:
        raise ConfigError(
            f"{key}: the weights of {model} know {known.classes} classes, the preset has {shape.classes}"
        )
    return known.source


def refuse_task(model: str, task: str, able: str) -> None:
    """ConfigError if a model that is able to do one task is asked for another one."""
    others = {CLASSIFICATION, DEPTH, SEGMENTATION} - {able}
    if task in others:
        raise ConfigError(f"model '{model}' is for {able}, not for {task}")


def options_of(spec: NetworkConfig, file: Path) -> dict[str, Any]:
    """The arguments of the class of a preset's network, whose weights the workflow keeps in `file`."""
    return code_of(spec.model)[0].options(spec, file)


def is_known(spec: NetworkConfig, file: Path) -> bool:
    """Whether it shows what a preset's network is, before its download and after."""
    return code_of(spec.model)[0].known(spec, file)


def input_of(spec: NetworkConfig, file: Path) -> Input:
    """The input of a preset's network: what the preset says, else what goes with its weights."""
    if spec.published:
        return code_of(spec.model)[0].input(spec, file)
    return Input(spec.input_size or 0, spec.mean or (0.5,), spec.std or (0.5,))


def _name(spec: NetworkConfig) -> str:
    return spec.model.partition(":")[2]


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
