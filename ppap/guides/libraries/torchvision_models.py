"""Models of torchvision by name; their weights stand after a slash (resnet50/IMAGENET1K_V2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppap.data.settings import Download
from ppap.guides.libraries.library import Input, Library, Pretrained, Shape, refuse_task
from ppap.utils.errors import ConfigError
from ppap.utils.settings import CLASSIFICATION, SEGMENTATION
from ppap.utils.weights import check_weights, load_weights, read_weights

_AUXILIARY = "aux_classifier."  # a second head that only taught the first layers


class TorchvisionModels(Library):
    """Classifiers and segmenters of torchvision; of a segmenter, without its auxiliary head."""

    written = "torchvision:NAME/WEIGHTS"
    ours = frozenset(["num_classes", "pretrained", "weights", "weights_backbone", "progress", "aux_loss"])
    gives_features = False

    def build(self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path] = ()) -> nn.Module:
        from torchvision import models

        model, task = _model(name)
        refuse_task(f"torchvision:{name}", shape.task, task)
        if shape.channels != 3:
            raise ConfigError(f"torchvision:{name} takes 3 channels, the images have {shape.channels}")
        # torchvision would download the backbone otherwise
        own = {"weights_backbone": None} if task == SEGMENTATION else {}
        network: nn.Module = models.get_model(model, weights=None, num_classes=shape.classes, **own, **options)
        if task == SEGMENTATION:
            network.register_forward_hook(_logits)
        return network

    def pretrained(self, name: str) -> Pretrained:
        """Look up as in `Library`; without WEIGHTS, the model's best ones."""
        from torchvision import models

        model, task = _model(name)
        wanted, known = name.partition("/")[2] or "DEFAULT", models.get_model_weights(model)
        if wanted not in known.__members__:
            there = ", ".join(known.__members__) or "none"
            raise ConfigError(f"torchvision:{model} has no weights '{wanted}' (it has {there})")
        weights = known[wanted]
        transforms = weights.transforms()
        size = (transforms.resize_size if task == SEGMENTATION else transforms.crop_size)[0]
        # torchvision's file names carry a hash
        digits = re.search(r"-([0-9a-f]{8,64})\.", weights.url)
        names = tuple(weights.meta["categories"])
        return Pretrained(
            Download(url=weights.url, sha256=digits[1] if digits else None),
            Input(size, tuple(transforms.mean), tuple(transforms.std)),
            names,
            len(names),
            task,
        )

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        state = read_weights(weights)
        if any(key.startswith(_AUXILIARY) for key in state) and _model(name)[1] == SEGMENTATION:
            with torch.device("meta"):
                whole = self.build(name, shape, {**options, "aux_loss": True})
            check_weights(whole, state, weights)
            state = {key: v for key, v in state.items() if not key.startswith(_AUXILIARY)}
        network = self.build(name, shape, options)
        load_weights(network, state, weights)
        return network


def _logits(network: nn.Module, images: tuple[Tensor, ...], answers: dict[str, Tensor]) -> Tensor:
    return answers["out"]


def _model(name: str) -> tuple[str, str]:
    """Split NAME/WEIGHTS: the name, and its task; ConfigError if torchvision has no such classifier or segmenter."""
    from torchvision import models

    model = name.partition("/")[0]
    for module, task in ((models, CLASSIFICATION), (models.segmentation, SEGMENTATION)):
        if model in models.list_models(module=module):
            return model, task
    raise ConfigError(f"torchvision has no classifier or segmenter '{model}'")
