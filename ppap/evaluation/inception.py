"""torch-fidelity's Inception v3 as the evaluator, with a classifier beside it that sees the target class or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppap.evaluation.evaluator import Evaluator, Extractor, answers
from ppap.graph.artefacts import INCEPTION_FEATURES, PREDICTED
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.networks.guide import Guide
from ppap.networks.inception import LOGITS, new_inception, untrained_inception
from ppap.preset import CLASSIFIER, EVALUATOR
from ppap.storage import tensor_spec
from ppap.storage.tensor_spec import TensorSpec


class Inception(Evaluator):
    """Pooled features, as in the original FID, and logits without bias for the Inception Score.

    The logits are of Inception's own classes; what the images' classes are, only the classifier says.
    """

    says_classes = False
    has_statistics = True

    def load(self, layout: Layout) -> Extractor:
        path = layout.model(EVALUATOR)
        with torch.device("meta"):
            spec = tensor_spec.of_network(untrained_inception())
        network = new_inception(tensor_spec.read(path, spec, {"model": EVALUATOR}), path)
        network.to(runtime.device(self.preset.runtime))
        classified = CLASSIFIER in self.preset.evaluator.networks
        return self._extractor(
            network, models.load_guide(layout, CLASSIFIER) if classified else None
        )

    def untrained(self, layout: Layout) -> Extractor:
        stored = self.stored(layout)
        return self._extractor(stored[EVALUATOR], stored.get(CLASSIFIER))

    def stored(self, layout: Layout) -> dict[str, nn.Module]:
        beside = self.preset.evaluator.networks
        classifiers = {name: models.new_guide(layout, name).eval() for name in beside}
        return {EVALUATOR: untrained_inception(), **classifiers}

    def describe(self, count: int | str) -> dict[str, TensorSpec]:
        predicts = CLASSIFIER in self.preset.evaluator.networks
        return self._described(count, INCEPTION_FEATURES, LOGITS, predicts)

    def _extractor(self, inception: nn.Module, judge: Guide | nn.Module | None) -> Extractor:
        def extract(images: Tensor) -> dict[str, Tensor]:
            if judge is None:
                return answers(*inception(images))
            with runtime.autocast(self.preset.runtime):
                predicted = judge(images.float() / 127.5 - 1).argmax(dim=1)
            return answers(*inception(images)) | {PREDICTED: predicted}

        return extract
