"""Models of torchvision by name; their weights stand after a slash (resnet50/IMAGENET1K_V2)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models

from ppap.errors import ConfigError
from ppap.networks.library import Pretrained
from ppap.preset import Download
from ppap.storage.weights import load_weights, read_weights


def build(name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    """The torchvision model `name`, untrained; `options` are arguments of its class."""
    if channels != 3:
        raise ConfigError(f"torchvision:{name} takes 3 channels, the images have {channels}")
    model = _classifier(name)
    return models.get_model(model, weights=None, num_classes=classes, **options)


def pretrained(name: str) -> Pretrained:
    """What torchvision says of the weights of NAME/WEIGHTS, its best ones without WEIGHTS."""
    model, wanted = _classifier(name), name.partition("/")[2] or "DEFAULT"
    known = models.get_model_weights(model)
    if wanted not in known.__members__:
        there = ", ".join(known.__members__) or "none"
        raise ConfigError(f"torchvision:{model} has no weights '{wanted}' (it has {there})")
    weights = known[wanted]
    transforms = weights.transforms()
    digits = re.search(r"-([0-9a-f]{8,64})\.", weights.url)  # torchvision's file names carry a hash
    return Pretrained(
        Download(url=weights.url, sha256=digits[1] if digits else None),
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        tuple(weights.meta["categories"]),
        len(weights.meta["categories"]),
    )


def load(
    name: str, channels: int, classes: int, options: dict[str, Any], weights: Path
) -> nn.Module:
    """The torchvision model with weights from a file; DataError names the first differences."""
    network = build(name, channels, classes, options)
    load_weights(network, read_weights(weights), weights)
    return network


def _classifier(name: str) -> str:
    """The model of NAME/WEIGHTS; ConfigError unless it is one of torchvision's classifiers."""
    model = name.partition("/")[0]
    if model not in models.list_models(module=models):
        raise ConfigError(f"torchvision has no classifier '{model}'")
    return model
