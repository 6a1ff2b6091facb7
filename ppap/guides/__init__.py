"""Guides: vision models by name, behind one call that takes images in [-1, 1]."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.config import NetworkConfig
from ppap.errors import ConfigError
from ppap.guides.library import module_of


class Guide(nn.Module):
    """A network behind its own resizing and normalisation.

    Call it with images (B, C, H, W) in [-1, 1]; it returns what the network returns. The resize is
    bilinear, antialiased when it shrinks, and differentiable.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, input_size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.network, self.input_size = network, input_size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor, normalise: bool = True) -> Tensor:
        """What the network says; without `normalise` it sees the resized images in [-1, 1] themselves."""
        return self.network(self.prepare(images) if normalise else self.resize(images))

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise images in [-1, 1] for the network."""
        return ((self.resize(images) + 1) / 2 - self.mean) / self.std

    def resize(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] at the network's input size."""
        size = images.shape[-1]
        if size == self.input_size:
            return images
        return F.interpolate(
            images,
            size=(self.input_size, self.input_size),
            mode="bilinear",
            align_corners=False,
            antialias=size > self.input_size,
        )


def build_network(model: str, options: dict[str, Any], channels: int, classes: int) -> nn.Module:
    """The network named LIBRARY:NAME or user:MODULE.FUNCTION, with untrained weights.

    `options` go to the model's class, after `channels` and `classes` in the library's own words.
    ConfigError if there is no such model, or it does not take these options.
    """
    if model.startswith("user:"):
        builder, name = _user_function(model), model
    else:
        module, name = module_of(model)
        builder = module.build
    with _refused_options(model):
        return builder(name, channels, classes, options)


def load_pretrained(spec: NetworkConfig, channels: int, classes: int, weights: Path) -> nn.Module:
    """A library's network with the weights in a file of the library's format; DataError if they are others."""
    module, name = module_of(spec.model)
    with _refused_options(spec.model):
        return module.load(name, channels, classes, spec.options, weights)


def features_and_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Penultimate features (B, D) and logits (B, K) of a timm classifier."""
    features = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return features, network.get_classifier()(features)  # type: ignore[operator]


@contextlib.contextmanager
def _refused_options(model: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"model '{model}': {' '.join(str(error).split())}") from None


def _user_function(model: str) -> Callable[..., nn.Module]:
    module, _, function = model.partition(":")[2].rpartition(".")
    try:
        builder = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model '{model}': {error}") from None
    wanted = list(inspect.signature(builder).parameters)

    def build(name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
        given = {"channels": channels, "classes": classes}
        return builder(**{k: v for k, v in given.items() if k in wanted}, **options)

    return build
