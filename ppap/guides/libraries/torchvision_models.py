"""Models of torchvision by name; their weights stand after a slash (resnet50/IMAGENET1K_V2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ppap.data.settings import Download
from ppap.guides.libraries.library import Input, Library, Pretrained, Shape, refuse_task
from ppap.utils.errors import ConfigError
from ppap.utils.settings import CLASSIFICATION, EMBEDDING, SEGMENTATION
from ppap.utils.weights import load_weights, read_weights

if TYPE_CHECKING:
    from ppap.guides.libraries.settings import NetworkConfig

_AUXILIARY = ("aux_classifier.", "AuxLogits.", "aux1.", "aux2.")  # heads that only taught the first layers
_INCEPTIONS = ("googlenet", "inception_v3")
# names in files from before PyTorch 0.4.1
_RENAMED = (r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.")


class TorchvisionModels(Library):
    """Classifiers and segmenters of torchvision, without auxiliary heads; of embeddings without the last layer too."""

    written = "torchvision:NAME/WEIGHTS"
    ours = frozenset(["num_classes", "pretrained", "weights", "weights_backbone", "progress", "aux_loss", "aux_logits"])
    gives_features = False

    def build(self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path] = ()) -> nn.Module:
        network = self._whole(name, shape, options)
        return _headless(network, name) if shape.task == EMBEDDING else network

    def _whole(self, name: str, shape: Shape, options: dict[str, Any]) -> nn.Module:
        """Build the model with its head; an embedding leaves that off once its weights are loaded."""
        from torchvision import models

        model, task = _model(name)
        refuse_task(f"torchvision:{name}", shape.task, task)
        if shape.channels != 3:
            raise ConfigError(f"torchvision:{name} takes 3 channels, the images have {shape.channels}")
        # torchvision would download the backbone otherwise
        own: dict[str, Any] = {"weights_backbone": None} if task == SEGMENTATION else {}
        own |= {"aux_logits": False} if model in _INCEPTIONS else {}
        own |= {} if shape.task == EMBEDDING else {"num_classes": shape.classes}
        network: nn.Module = models.get_model(model, weights=None, **own, **options)
        if task == SEGMENTATION:
            network.register_forward_hook(_logits)
        if isinstance(network, models.MNASNet):  # it would refuse files that do not say their format's version
            network._load_from_state_dict = partial(nn.Module._load_from_state_dict, network)
        return network

    def options(self, spec: NetworkConfig, file: Path) -> dict[str, Any]:
        return {**_set_by_weights(spec.name), **spec.options} if spec.published else spec.options

    def pretrained(self, name: str) -> Pretrained:
        """Look up as in `Library`; without WEIGHTS, the model's best ones."""
        task, weights = _model(name)[1], _weights(name)
        transforms = weights.transforms()
        size = (transforms.resize_size if task == SEGMENTATION else transforms.crop_size)[0]
        how = transforms.interpolation.value
        # torchvision's file names carry a hash
        digits = re.search(r"-([0-9a-f]{8,64})\.", weights.url)
        names = tuple(weights.meta["categories"])
        return Pretrained(
            Download(url=weights.url, sha256=digits[1] if digits else None),
            Input(size, tuple(transforms.mean), tuple(transforms.std), how, bool(transforms.antialias)),
            names,
            len(names),
            task,
        )

    def load(self, name: str, shape: Shape, options: dict[str, Any], weights: Path) -> nn.Module:
        network = self._whole(name, shape, {**_set_by_weights(name), **options})
        state = {re.sub(*_RENAMED, key): value for key, value in read_weights(weights).items()}
        load_weights(network, {k: v for k, v in state.items() if not k.startswith(_AUXILIARY)}, weights)
        return _headless(network, name) if shape.task == EMBEDDING else network


def _weights(name: str) -> Any:
    """Look up torchvision's weights of NAME/WEIGHTS; ConfigError if it has none such."""
    from torchvision import models

    model, _, wanted = name.partition("/")
    known = models.get_model_weights(model)
    if (wanted or "DEFAULT") not in known.__members__:
        there = ", ".join(known.__members__) or "none"
        raise ConfigError(f"torchvision:{model} has no weights '{wanted}' (it has {there})")
    return known[wanted or "DEFAULT"]


def _set_by_weights(name: str) -> dict[str, Any]:
    """Return the arguments of a model that torchvision itself sets where it loads its weights."""
    model = name.partition("/")[0]
    if model in _INCEPTIONS:
        return {"transform_input": True, "init_weights": False}
    if model.startswith("vit_"):
        return {"image_size": _weights(name).meta["min_size"][0]}
    return {"input_size": _weights(name).meta["min_size"]} if model.startswith("maxvit") else {}


def _headless(network: nn.Module, name: str) -> nn.Module:
    """Leave off the last linear layer, which makes classes of features; ConfigError if there is none (SqueezeNet)."""
    linear = [layer for layer, kind in network.named_modules() if isinstance(kind, nn.Linear)]
    if not linear:
        raise ConfigError(f"torchvision:{name}: has no linear head, below which a vector could be taken")
    network.set_submodule(linear[-1], nn.Identity())
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
