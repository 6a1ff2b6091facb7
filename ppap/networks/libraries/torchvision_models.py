"""Models of torchvision by name; their weights stand after a slash (resnet50/IMAGENET1K_V2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models

from ppap.errors import ConfigError
from ppap.networks.libraries.library import LibraryCode, Pretrained, Shape
from ppap.preset import Download
from ppap.storage.weights import load_weights, read_weights


class TorchvisionCode(LibraryCode):
    """Classifiers of torchvision."""

    def build(
        self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path] = ()
    ) -> nn.Module:
        if shape.channels != 3:
            raise ConfigError(
                f"torchvision:{name} takes 3 channels, the images have {shape.channels}"
            )
        model = _classifier(name)
        return models.get_model(model, weights=None, num_classes=shape.classes, **options)

    def pretrained(self, name: str) -> Pretrained:
        """As in LibraryCode; without WEIGHTS, the model's best ones."""
        model, wanted = _classifier(name), name.partition("/")[2] or "DEFAULT"
        known = models.get_model_weights(model)
        if wanted not in known.__members__:
            there = ", ".join(known.__members__) or "none"
            raise ConfigError(f"torchvision:{model} has no weights '{wanted}' (it has {there})")
        weights = known[wanted]
        transforms = weights.transforms()
        # torchvision's file names carry a hash
        digits = re.search(r"-([0-9a-f]{8,64})\.", weights.url)
        return Pretrained(
            Download(url=weights.url, sha256=digits[1] if digits else None),
            transforms.crop_size[0],
            tuple(transforms.mean),
            tuple(transforms.std),
            tuple(weights.meta["categories"]),
            len(weights.meta["categories"]),
        )

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        network = self.build(name, shape, options)
        load_weights(network, read_weights(weights), weights)
        return network


def _classifier(name: str) -> str:
    """The model of NAME/WEIGHTS; ConfigError unless it is one of torchvision's classifiers."""
    model = name.partition("/")[0]
    if model not in models.list_models(module=models):
        raise ConfigError(f"torchvision has no classifier '{model}'")
    return model
