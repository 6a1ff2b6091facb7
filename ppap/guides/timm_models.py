"""Models of timm by name; a pretrained tag stands after a dot, as in timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_url
from timm.data.imagenet_info import ImageNetInfo
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from ppap.config import Download
from ppap.errors import ConfigError, DataError
from ppap.guides.library import Pretrained

_IMAGENET = 1000


def build(name: str, channels: int, classes: int, options: dict[str, Any]) -> nn.Module:
    """The timm model `name`, untrained; `options` are arguments of its class."""
    return timm.create_model(name, in_chans=channels, num_classes=classes, **options)


def pretrained(name: str) -> Pretrained:
    """What timm says of the weights of `name`."""
    try:
        known = get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ConfigError(f"timm:{name}: {error}") from None
    if known is None:
        raise ConfigError(f"timm:{name}: timm does not say what its input is")
    names = ImageNetInfo().label_descriptions() if known.num_classes == _IMAGENET else ()
    return Pretrained(
        _source(known), known.input_size[-1], known.mean, known.std, tuple(names), known.num_classes
    )


def _source(known: PretrainedCfg) -> Download | None:
    if known.hf_hub_id:
        file = known.hf_hub_filename or "model.safetensors"
        named = f"{known.hf_hub_id.replace('/', '--')}--{file}"
        return Download(url=hf_hub_url(known.hf_hub_id, file), file=named)
    return Download(url=str(known.url)) if known.url else None


def load(
    name: str, channels: int, classes: int, options: dict[str, Any], weights: Path
) -> nn.Module:
    """The timm model with weights from a file in timm's own format, converted as timm does."""
    overlay = {"file": str(weights), "num_classes": classes}  # or timm would make up another head
    try:
        return timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels,
            num_classes=classes, **options,
        )  # fmt: skip
    except (RuntimeError, KeyError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{weights}: not the weights of timm:{name} ({reason})") from None
