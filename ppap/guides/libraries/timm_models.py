"""Models of timm by name; a pretrained tag stands after a dot, as in timm."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_url
from timm.data.imagenet_info import ImageNetInfo
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from ppap.data.settings import Download
from ppap.guides.libraries.library import LibraryCode, Pretrained, Shape, reason, refuse_task
from ppap.guides.tasks.kinds import CLASSIFICATION
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.weights import check_numbers, read_weights

_IMAGENET = 1000
_NOT_THE_MODELS = inspect.signature(timm.create_model).parameters.keys() - {"kwargs"}


class TimmCode(LibraryCode):
    """Models of timm."""

    def build(
        self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]
    ) -> nn.Module:
        _check(name, options)
        refuse_task(f"timm:{name}", shape.task, CLASSIFICATION)
        return timm.create_model(
            name, in_chans=shape.channels, num_classes=shape.classes, **options
        )

    def pretrained(self, name: str) -> Pretrained:
        _check(name, {})
        try:
            known = get_pretrained_cfg(name)
        except RuntimeError as error:
            raise ConfigError(f"timm:{name}: {error}") from None
        if known is None:
            raise ConfigError(f"timm:{name}: timm does not say what its input is")
        names = ImageNetInfo().label_descriptions() if known.num_classes == _IMAGENET else ()
        size = known.input_size[-1]
        return Pretrained(
            _source(known), size, known.mean, known.std, tuple(names), known.num_classes
        )

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        """As in LibraryCode, converted as timm does.

        timm is given tensors, never a file: not every version of it reads files without running them.
        """
        _check(name, options)
        refuse_task(f"timm:{name}", shape.task, CLASSIFICATION)
        state = read_weights(weights)
        # with its classes, or timm would make up another head
        overlay = {"state_dict": dict(state), "num_classes": shape.classes, "custom_load": False}
        try:
            network: Any = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=shape.channels,
                num_classes=shape.classes, **options,
            )  # fmt: skip
        except Exception as error:  # each model converts the names in its own way
            raise DataError(
                f"{weights}: not the weights of timm:{name} ({reason(error)})"
            ) from error
        network.pretrained_cfg.pop("state_dict", None)  # a second copy
        check_numbers(network, state, weights)
        return network


def _source(known: PretrainedCfg) -> Download | None:
    if known.hf_hub_id:
        file = known.hf_hub_filename or "model.safetensors"
        named = f"{known.hf_hub_id.replace('/', '--')}--{file}"
        return Download(url=hf_hub_url(known.hf_hub_id, file), file=named)
    return Download(url=str(known.url)) if known.url else None


def _check(name: str, options: dict[str, Any]) -> None:
    """ConfigError unless this is one of timm's models, with no options but its own."""
    if not timm.is_model(name.partition(".")[0]):
        raise ConfigError(f"timm has no model '{name}'")
    if taken := _NOT_THE_MODELS & options.keys():
        raise ConfigError(f"timm:{name}: options: '{min(taken)}' is no argument of the model")
