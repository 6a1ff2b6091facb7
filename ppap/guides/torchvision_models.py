"""Models of torchvision by name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from ppap.errors import ConfigError


def build(name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    """The torchvision model `name`; `options` are arguments of its class."""
    if channels != 3:
        raise ConfigError(f"torchvision:{name} takes 3 channels, the images have {channels}")
    return models.get_model(name, weights=None, num_classes=classes, **options)
