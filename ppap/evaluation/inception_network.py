"""torch-fidelity's Inception v3 of the original FID, in which Inception features and logits are measured."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ppap.utils.weights import check_weights, read_weights

_NAME, _LAYERS = "inception-v3-compat", ["2048", "logits_unbiased"]


def new_inception(weights: dict[str, Tensor], source: object) -> FeatureExtractorInceptionV3:
    """The network with its weights; DataError, naming their source, if they are others."""
    _check_inception(weights, source)
    return FeatureExtractorInceptionV3(_NAME, _LAYERS, feature_extractor_weights_path=_saved(weights))


def inception_weights(path: Path) -> dict[str, Tensor]:
    """torch-fidelity's weights file; DataError if it is another, or damaged."""
    tensors = read_weights(path)
    _check_inception(tensors, path)
    return tensors


def untrained_inception() -> nn.Module:
    """The network before it has weights, for what its shapes tell."""

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Any, *arguments: Any, **options: Any) -> Any:
            return None

    return Untrained(_NAME, _LAYERS, feature_extractor_weights_path=_saved({}))


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
