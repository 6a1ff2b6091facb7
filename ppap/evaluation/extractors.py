"""Feature extractors of images: an independent classifier, or torch-fidelity's Inception v3."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import create_feature_extractor

from ppap.graph.artefacts import FEATURES, LOGITS, PREDICTED
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.networks.guide import Guide, features_and_logits
from ppap.preset import CLASSIFIER, EVALUATOR, InceptionEvaluator
from ppap.storage import files, tensor_spec
from ppap.storage.weights import check_weights, read_weights

INCEPTION, INCEPTION_LAYERS = "inception-v3-compat", ["2048", "logits_unbiased"]
Extractor = Callable[[Tensor], dict[str, Tensor]]
"""uint8 (B, C, H, W) to features (B, D), logits (B, K), and classes (B,) if a classifier of its own says them."""


def create(layout: Layout) -> Extractor:
    """The preset's evaluator on its device. An Inception evaluator's classifier predicts the class besides."""
    preset = layout.preset
    if not isinstance(preset.evaluator, InceptionEvaluator):
        return _classifier(layout)
    inception = _inception(layout)
    if preset.evaluator.classifier is None:
        return inception
    judge = models.load_guide(layout, CLASSIFIER)

    def extract(images: Tensor) -> dict[str, Tensor]:
        with runtime.autocast(preset.runtime):
            predicted = judge(images.float() / 127.5 - 1).argmax(dim=1)
        return inception(images) | {PREDICTED: predicted}

    return extract


def _classifier(layout: Layout) -> Extractor:
    preset = layout.preset
    name = f"ppap-{files.sha256(layout.model(EVALUATOR))}"
    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_classifier(name, models.load_guide(layout, EVALUATOR))
    cuda = runtime.device(preset.runtime).type == "cuda"
    extractor = create_feature_extractor(name, [FEATURES, LOGITS], cuda=cuda, verbose=False)
    return lambda images: dict(zip((FEATURES, LOGITS), extractor(images), strict=True))


def _inception(layout: Layout) -> Extractor:
    """Inception v3 as in the original FID: pooled features, and logits without bias for the Inception Score."""
    preset = layout.preset
    path = layout.model(EVALUATOR)
    with torch.device("meta"):
        spec = tensor_spec.of_network(untrained_inception())
    network = new_inception(tensor_spec.read(path, spec, {"model": EVALUATOR}), path)
    network.to(runtime.device(preset.runtime))
    return lambda images: dict(zip((FEATURES, LOGITS), network(images), strict=True))


def new_inception(weights: dict[str, Tensor], source: object) -> FeatureExtractorInceptionV3:
    """torch-fidelity's Inception v3 with its weights; DataError, naming their source, if they are others."""
    _check_inception(weights, source)
    return FeatureExtractorInceptionV3(
        INCEPTION, INCEPTION_LAYERS, feature_extractor_weights_path=_saved(weights)
    )


def inception_weights(path: Path) -> dict[str, Tensor]:
    """torch-fidelity's weights file; DataError if it is another, or damaged."""
    tensors = read_weights(path)
    _check_inception(tensors, path)
    return tensors


def _check_inception(tensors: dict[str, Tensor], source: object) -> None:
    with torch.device("meta"):
        network = untrained_inception()
    check_weights(network, tensors, source)


def _saved(tensors: dict[str, Tensor]) -> io.BytesIO:
    """Tensors in the only format that torch-fidelity takes."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    buffer.seek(0)
    return buffer


def untrained_inception() -> nn.Module:
    """`_inception`'s network before it has weights, for counting what it takes."""

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Any, *arguments: Any, **options: Any) -> Any:
            return None

    return Untrained(INCEPTION, INCEPTION_LAYERS, feature_extractor_weights_path=_saved({}))


def register_classifier(name: str, guide: Guide) -> None:
    """Make a classifier known to torch-fidelity: penultimate features, and logits for the Inception Score."""

    class Classifier(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
            super().__init__(name, features_list)
            self.guide = guide

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return FEATURES, LOGITS

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LOGITS if metric == "isc" else FEATURES

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            """uint8 (B, C, H, W) to features (B, D) and logits (B, K)."""
            images = self.guide.prepare(input.float() / 127.5 - 1)
            outputs = dict(
                zip(
                    (FEATURES, LOGITS), features_and_logits(self.guide.network, images), strict=True
                )
            )
            return tuple(outputs[name].float() for name in self.features_list)

    register_feature_extractor(name, Classifier)
