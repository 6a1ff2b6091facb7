"""The interface of evaluators: from images to features and logits, and what that takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ppap.config import Preset
from ppap.guides.guide import Guide
from ppap.utils import files
from ppap.utils.tensor_spec import TensorSpec
from ppap.workflow.artefacts import FEATURES, LOGITS, PREDICTED
from ppap.workflow.layout import Layout

Extractor = Callable[[Tensor], dict[str, Tensor]]
"""uint8 (B, C, H, W) to features (B, D), logits (B, K), and classes (B,) if the evaluator predicts them besides."""


class Evaluator(ABC):
    """A preset's evaluator. What is known of it without torch is in `preset.evaluator`."""

    says_classes: bool = True
    """Its logits are of the data set's classes, so their largest is the class that it sees."""
    has_statistics: ClassVar[bool] = False
    """Mean and covariance that come with reference images are of its features."""
    tried_on: ClassVar[str] = "meta"
    """The device on which it can be tried without files."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset

    @abstractmethod
    def load(self, layout: Layout) -> Extractor:
        """It from its files, on the preset's device."""

    @abstractmethod
    def untrained(self, layout: Layout) -> Extractor:
        """It without its files, on the current device (see `tried_on`)."""

    def stored(self, layout: Layout) -> dict[str, nn.Module]:
        """The networks in its files, by name, untrained."""
        return {}

    def identity(self, layout: Layout) -> dict[str, str]:
        """What tells its features from those of another evaluator."""
        paths = {name: layout.model(name) for name in self.preset.evaluator.judged_by}
        return {f"{name}_sha256": files.sha256(path) for name, path in paths.items()}

    def describe(self, count: int | str) -> dict[str, TensorSpec]:
        """What it says of `count` images."""
        return self._described(count, "features", self.preset.dataset.classes)

    def check_network(  # noqa: B027, most have nothing to check
        self, name: str, guide: Guide, images: Tensor
    ) -> None:
        """ConfigError unless one of its classifiers does on these images, in [-1, 1], what is asked of it besides."""

    def check(self) -> None:  # noqa: B027
        """ConfigError if it cannot be used, as far as that shows without its files; its classifiers come apart."""

    def _described(
        self,
        count: int | str,
        features: int | str,
        logits: int | str,
        predicts: bool | None = False,
    ) -> dict[str, TensorSpec]:
        """A description of these widths; predicted classes are there, or not, or (None) perhaps."""
        found = {
            FEATURES: TensorSpec(("float32",), (count, features)),
            LOGITS: TensorSpec(("float32",), (count, logits)),
        }
        if predicts is not False:
            below, optional = self.preset.dataset.classes, predicts is None
            found[PREDICTED] = TensorSpec(("int64",), (count,), below=below, optional=optional)
        return found


def answers(features: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """An evaluator's answers by their names in files."""
    return {FEATURES: features, LOGITS: logits}
