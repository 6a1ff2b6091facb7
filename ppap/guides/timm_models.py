"""Models of timm by name."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from ppap.errors import ConfigError


def build(name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ConfigError(f"timm has no model '{name}'{hint}")
    return timm.create_model(name, in_chans=channels, num_classes=classes, **options)
