"""The interface of libraries of vision models: their facts, how they build a model, and how weights are had."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ppap.data.downloads import Downloads
from ppap.data.settings import Download
from ppap.guides.preprocessing import Interpolation
from ppap.utils.errors import ConfigError, PPAPError, reason
from ppap.utils.settings import CLASSIFICATION, DEPTH, EMBEDDING, SCORE, SEGMENTATION
from ppap.utils.weights import provenance

if TYPE_CHECKING:
    from ppap.guides.libraries.settings import NetworkConfig


class Input(NamedTuple):
    """The input of a network: the whole image at so many pixels a side, normalised, for pixels in [0, 1]."""

    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    antialias: bool = True


class Pretrained(NamedTuple):
    """Weights of a library: their file (if there are any), the input they are for, and their classes."""

    source: Download | None
    input: Input
    class_names: tuple[str, ...]
    classes: int
    task: str = CLASSIFICATION


class Shape(NamedTuple):
    """Channels of the images that a network sees, and what it answers.

    `classes` numbers an image, or for segmentation a pixel; for depth one number a pixel (B, H, W). An embedding is the
    library's network without its head, which answers with as many numbers as it has.
    """

    channels: int
    classes: int
    task: str = CLASSIFICATION


class Library(ABC):
    """A library of vision models. A preset writes LIBRARY:NAME; methods are given NAME, or the network's section.

    `file` is the one in which the workflow keeps a network's weights; it may not be there yet.
    """

    written: ClassVar[str]
    """The form of a model's name in presets."""
    ours: ClassVar[frozenset[str]] = frozenset()
    """Arguments of models that are no `options`: images, classes and weights are what the preset says elsewhere."""
    publishes_weights: ClassVar[bool] = True
    """Pretrained weights are files of their own; otherwise a model is built with them."""
    one_file: ClassVar[bool] = True
    """A model's weights are one file, in place of which a preset may name another one."""
    gives_features: ClassVar[bool] = True
    """Its classifiers give their penultimate features."""
    of_user: ClassVar[bool] = False
    """Its models are code of the user's own."""
    needs: ClassVar[str | None] = None
    """The package that it is, and the extra of ours that installs it, where not every installation has it."""
    download_reads: ClassVar[tuple[str, ...]] = ()
    """Keys of a network that its download reads, besides those that build it."""

    def knows(self, name: str) -> bool:
        """Say whether a model may have this name; whether there is one, building it tells."""
        return bool(name.strip()) and name.isprintable()

    @abstractmethod
    def build(self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]) -> nn.Module:
        """Build the model with untrained weights; `options` are arguments of its class.

        The user's own modules lie in `folders`. ConfigError if there is no such model; what the model's own code
        raises comes as it is.
        """

    def pretrained(self, name: str) -> Pretrained:
        """Look up what the library says of the model's weights; ConfigError if it has no such weights."""
        raise ConfigError(f"model '{name}': its library publishes no weights")

    def hub_name(self, name: str) -> str | None:
        """Return the name of the model on the Hugging Face hub; None if it is not there."""
        return None

    def folder_name(self, name: str) -> str | None:
        """Return what others, who do not have this machine's folders, call a model in one; None if `name` is no folder."""
        return None

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        """Load the model with weights from a file in the library's format; DataError if they are others."""
        raise ConfigError(f"model '{name}': its library publishes no weights")

    def options(self, spec: NetworkConfig, file: Path) -> dict[str, Any]:
        """Read the arguments of the model's class; DataError if only `file` says them, and it is not there."""
        return spec.options

    def published_input(self, spec: NetworkConfig, file: Path) -> Mapping[str, Any]:
        """Read the `Input` that goes with published weights, as far as anything says it."""
        return self.pretrained(spec.name).input._asdict()

    def reader(self, spec: NetworkConfig, file: Path, downloads: Path) -> Callable[[Sequence[str]], Tensor] | None:
        """Return what turns texts into vectors (N, D) beside those of images; None if the model has no text tower.

        What it needs besides the workflow's file lies in a folder there, or is downloaded when words are first read.
        """
        return None

    def check(self, spec: NetworkConfig, shape: Shape, key: str) -> None:
        """Refuse a preset whose published weights do not exist, as far as that is known before any download."""
        known = self.pretrained(spec.name)
        if spec.weights is None:
            published(known, spec.model, key, shape)

    def download(
        self, spec: NetworkConfig, shape: Shape, key: str, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Download the published weights: tensors, and metadata about them.

        DataError if they cannot be had, or are not what they should be; ConfigError if they do not fit the preset.
        """
        known = self.pretrained(spec.name)
        wanted = spec.weights or published(known, spec.model, key, shape)
        names = {"class_names": json.dumps(known.class_names)} if known.class_names else {}
        with downloads.file(wanted) as path, building(spec.model):
            network = self.load(spec.name, shape, spec.options, path)
            return network.state_dict(), provenance(path) | names


def published(known: Pretrained, model: str, key: str, shape: Shape) -> Download:
    """Say where the library keeps the weights; ConfigError unless there are any, which answer as the preset needs."""
    if known.source is None:
        raise ConfigError(f"{key}: there are no weights of {model}; give `train` or `weights`")
    refuse_task(model, shape.task, known.task)
    if shape.task != EMBEDDING and known.classes != shape.classes:
        raise ConfigError(f"{key}: the weights of {model} know {known.classes} classes, the preset has {shape.classes}")
    return known.source


def refuse_task(model: str, task: str, able: str) -> None:
    """Raise ConfigError if a model that is able to do one task is asked for another one of ours."""
    does = {CLASSIFICATION, EMBEDDING, SCORE} if able == CLASSIFICATION else {able}
    if task in {CLASSIFICATION, DEPTH, SEGMENTATION, EMBEDDING, SCORE} - does:
        raise ConfigError(f"model '{model}' is for {able}, not for {task}")


@contextlib.contextmanager
def building(model: str) -> Iterator[None]:
    """Turn what a library raises, of names and options that it does not take, into a ConfigError of one line."""
    try:
        yield
    except PPAPError:
        raise
    except Exception as error:
        raise ConfigError(f"model '{model}': cannot be built ({reason(error)})") from error
