"""Models of torchvision by name; their weights stand after a slash (resnet50/IMAGENET1K_V2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import segmentation

from ppap.data.settings import Download
from ppap.guides.libraries.library import LibraryCode, Pretrained, Shape, refuse_task
from ppap.guides.tasks.kinds import CLASSIFICATION, SEGMENTATION
from ppap.utils.errors import ConfigError
from ppap.utils.weights import check_weights, load_weights, read_weights

_AUXILIARY = "aux_classifier."  # a second head that only taught the first layers


class _Model(NamedTuple):
    name: str
    task: str


class TorchvisionCode(LibraryCode):
    """Classifiers and segmenters of torchvision; of a segmenter, without its auxiliary head."""

    def build(
        self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path] = ()
    ) -> nn.Module:
        return _built(name, shape, options)

    def pretrained(self, name: str) -> Pretrained:
        """As in LibraryCode; without WEIGHTS, the model's best ones."""
        model, wanted = _model(name), name.partition("/")[2] or "DEFAULT"
        known = models.get_model_weights(model.name)
        if wanted not in known.__members__:
            there = ", ".join(known.__members__) or "none"
            raise ConfigError(
                f"torchvision:{model.name} has no weights '{wanted}' (it has {there})"
            )
        weights = known[wanted]
        transforms = weights.transforms()
        size = transforms.resize_size if model.task == SEGMENTATION else transforms.crop_size
        # torchvision's file names carry a hash
        digits = re.search(r"-([0-9a-f]{8,64})\.", weights.url)
        return Pretrained(
            Download(url=weights.url, sha256=digits[1] if digits else None),
            size[0],
            tuple(transforms.mean),
            tuple(transforms.std),
            tuple(weights.meta["categories"]),
            len(weights.meta["categories"]),
            model.task,
        )

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        state = read_weights(weights)
        if _model(name).task == SEGMENTATION and any(key.startswith(_AUXILIARY) for key in state):
            with torch.device("meta"):
                whole = _built(name, shape, {**options, "aux_loss": True})
            check_weights(whole, state, weights)
            state = {key: v for key, v in state.items() if not key.startswith(_AUXILIARY)}
        network = _built(name, shape, options)
        load_weights(network, state, weights)
        return network


def _built(name: str, shape: Shape, options: dict[str, Any]) -> nn.Module:
    model = _model(name)
    refuse_task(f"torchvision:{name}", shape.task, model.task)
    if shape.channels != 3:
        raise ConfigError(f"torchvision:{name} takes 3 channels, the images have {shape.channels}")
    # torchvision would download the backbone otherwise
    own = {"weights_backbone": None} if model.task == SEGMENTATION else {}
    network = models.get_model(
        model.name, weights=None, num_classes=shape.classes, **own, **options
    )
    if model.task == SEGMENTATION:
        network.register_forward_hook(_logits)
    return network


def _logits(network: nn.Module, images: tuple[Tensor, ...], answers: dict[str, Tensor]) -> Tensor:
    return answers["out"]


def _model(name: str) -> _Model:
    """The model of NAME/WEIGHTS; ConfigError unless it is one of torchvision's classifiers or segmenters."""
    model = name.partition("/")[0]
    for module, task in ((models, CLASSIFICATION), (segmentation, SEGMENTATION)):
        if model in models.list_models(module=module):
            return _Model(model, task)
    raise ConfigError(f"torchvision has no classifier or segmenter '{model}'")
