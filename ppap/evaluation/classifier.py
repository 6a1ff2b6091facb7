"""An independent classifier as the evaluator: its penultimate features, and its logits."""

from __future__ import annotations

from torch import Tensor, nn

from ppap.evaluation.evaluator import Evaluator, Extractor, answers
from ppap.guides.guide import Guide, features_and_logits
from ppap.utils.errors import ConfigError, reason
from ppap.utils.settings import EVALUATOR
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout


class Classifier(Evaluator):
    """A timm classifier, trained here or taken from its library."""

    def load(self, layout: Layout) -> Extractor:
        return _extractor(models.load_guide(layout, EVALUATOR))

    def untrained(self, layout: Layout) -> Extractor:
        return _extractor(_new(layout))

    def stored(self, layout: Layout) -> dict[str, nn.Module]:
        return {EVALUATOR: _new(layout)}

    def check_network(self, name: str, guide: Guide, images: Tensor) -> None:
        """It says its penultimate features (B, D), and its logits from them."""
        classes = self.preset.dataset.classes
        try:
            features, logits = features_and_logits(guide.network, guide.prepare(images))
        except Exception as error:
            raise ConfigError(
                f"model '{guide.name}': does not give its features as timm's classifiers do "
                f"({reason(error)})"
            ) from error
        if features.ndim != 2 or logits.shape != (len(images), classes):
            raise ConfigError(
                f"model '{guide.name}': features {tuple(features.shape)} and logits "
                f"{tuple(logits.shape)}; expected were ({len(images)}, D) and ({len(images)}, {classes})"
            )


def _new(layout: Layout) -> Guide:
    return models.new_guide(layout, EVALUATOR).eval()


def _extractor(guide: Guide) -> Extractor:
    def extract(images: Tensor) -> dict[str, Tensor]:
        features, logits = features_and_logits(
            guide.network, guide.prepare(images.float() / 127.5 - 1)
        )
        return answers(features.float(), logits.float())

    return extract
