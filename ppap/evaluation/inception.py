"""torch-fidelity's Inception v3 as the evaluator, with a classifier beside it that sees the target class or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppap.evaluation.evaluator import Evaluator, Extractor, answers
from ppap.evaluation.inception_network import LOGITS, new_inception, untrained_inception
from ppap.guides.guide import Guide
from ppap.utils import tensor_spec
from ppap.utils.device import device_of
from ppap.utils.mixed_precision import autocast
from ppap.utils.settings import CLASSIFIER, EVALUATOR
from ppap.utils.tensor_spec import TensorSpec
from ppap.workflow import networks as models
from ppap.workflow.artefacts import INCEPTION_FEATURES, PREDICTED
from ppap.workflow.layout import Layout


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
        network.to(device_of(self.preset.runtime))
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
            with autocast(self.preset.runtime):
                predicted = judge(images.float() / 127.5 - 1).argmax(dim=1)
            return answers(*inception(images)) | {PREDICTED: predicted}

        return extract
