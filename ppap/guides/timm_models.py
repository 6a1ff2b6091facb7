"""Models of timm by name."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn


def build(name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    """The timm model `name`; `options` are arguments of its class."""
    return timm.create_model(name, in_chans=channels, num_classes=classes, **options)
