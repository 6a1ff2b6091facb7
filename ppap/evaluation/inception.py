"""torch-fidelity's Inception v3 as the evaluator, with a classifier beside it that sees the target class or not."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ppap.data.datasets import INCEPTION_FEATURES, DatasetConfig
from ppap.data.downloads import Downloads
from ppap.data.settings import Download, ReferenceConfig
from ppap.evaluation.evaluator import NEIGHBOURS, Evaluator, Extractor, describe, predicted
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import tensor_spec
from ppap.utils.device import Runtime
from ppap.utils.mixed_precision import autocast
from ppap.utils.settings import CLASSIFIER, EVALUATOR, Count, Section
from ppap.utils.tensor_spec import FEATURES, LOGITS, PREDICTED, TensorSpec
from ppap.utils.weights import check_weights, provenance, read_weights

CLASSES = 1008  # of its logits, which are its own


class InceptionEvaluator(Evaluator, Section):
    """The evaluator `kind: inception`: torch-fidelity's Inception v3 of the original FID, for RGB images."""

    kind: Literal["inception"] = Field(description="Inception v3")
    weights: Download = Field(description="torch-fidelity's weights file")
    reference: ReferenceConfig = Field(description="what samples are compared with")
    classifier: NetworkConfig | None = Field(
        None,
        description="a network as for a guide, that no guide should be: it gives the target-class rate; left out: that "
        "column stays empty",
    )
    neighbours: Count = Field(3, description=NEIGHBOURS)

    in_print: ClassVar[bool] = True

    @property
    def compared_with(self) -> ReferenceConfig:
        return self.reference

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        return {CLASSIFIER: self.classifier} if self.classifier else {}

    @property
    def judged_by(self) -> tuple[str, ...]:
        return (EVALUATOR, *self.networks)

    @property
    def downloads(self) -> dict[str, Download | None]:
        return {"weights": self.weights, **super().downloads}

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        if data.channels != 3:
            yield f"kind: inception sees 3 channels, not {data.channels}"

    def download(self, downloads: Downloads) -> tuple[dict[str, Tensor], dict[str, str]]:
        with downloads.file(self.weights) as path:
            weights = read_weights(path)
            check_weights(_on_meta(), weights, path)
            return weights, provenance(path)

    def untrained(self) -> dict[str, nn.Module]:
        return {EVALUATOR: inception_network()}

    def load(self, paths: Mapping[str, Path]) -> dict[str, nn.Module]:
        weights = tensor_spec.read(paths[EVALUATOR], tensor_spec.of_network(_on_meta()), {"model": EVALUATOR})
        return {EVALUATOR: inception_network(weights)}

    def extractor(
        self, networks: Mapping[str, nn.Module], runtime: Runtime, classes: int | None, folders: Sequence[Path]
    ) -> Extractor:
        """Extract pooled features, as in the original FID, and logits without bias for the Inception Score.

        The logits are of Inception's own classes; the images' classes are those that the classifier predicts.
        """
        inception, classifier = networks[EVALUATOR], networks.get(CLASSIFIER)

        def answer(images: Tensor) -> dict[str, Tensor]:
            answers = dict(zip((FEATURES, LOGITS), inception(images), strict=True))
            if classifier is None:
                return answers
            with autocast(runtime):
                seen = classifier(images.float() / 127.5 - 1).argmax(dim=1)
            return answers | {PREDICTED: seen}

        return Extractor(answer, says_classes=False)

    def describe(self, count: int | str, classes: int) -> dict[str, TensorSpec]:
        beside = predicted(count, classes) if self.classifier else {}
        return describe(count, INCEPTION_FEATURES, CLASSES) | beside


def _on_meta() -> nn.Module:
    with torch.device("meta"):
        return inception_network()


def inception_network(weights: dict[str, Tensor] | None = None) -> nn.Module:
    """Build torch-fidelity's network, which loads its weights from a file of torch.save; without any, untrained."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Inception(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Any, *arguments: Any, **options: Any) -> Any:
            return None if weights is None else super().load_state_dict(state_dict, *arguments, **options)

    file = io.BytesIO()
    torch.save(weights or {}, file)
    file.seek(0)
    return Inception("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
