"""An independent classifier as the evaluator: its penultimate features, and its logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from ppap.data.datasets import DatasetConfig
from ppap.evaluation.evaluator import COMPARED, NEIGHBOURS, Evaluator, Extractor
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils.device import Runtime
from ppap.utils.settings import EVALUATOR, Count
from ppap.utils.tensor_names import FEATURES, LOGITS

if TYPE_CHECKING:
    from ppap.guides.guide import Guide


class ClassifierEvaluator(Evaluator, NetworkConfig):
    """The evaluator `kind: classifier`: an independent classifier of timm or of your own.

    Its penultimate features give FID, precision and recall, its logits the Inception Score and the target-class rate.
    The data set's training images are the reference.
    """

    kind: Literal["classifier"] = Field("classifier", description="an independent classifier")
    neighbours: Count = Field(3, description=NEIGHBOURS)
    compared: Count = Field(10_000, description=COMPARED)

    @property
    def most_compared(self) -> int:
        return self.compared

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        return {EVALUATOR: self}

    def problems(self, data: DatasetConfig) -> Iterator[str]:
        yield from super().problems(data)
        if not self.library.gives_features:
            yield f"model: '{self.model}': its library's models do not give their features"

    def extractor(
        self,
        networks: Mapping[str, nn.Module],
        runtime: Runtime,
        classes: int | None = None,
        folders: Sequence[Path] = (),
    ) -> Extractor:
        from ppap.guides.guide import features_and_logits

        guide = cast("Guide", networks[EVALUATOR])

        def answer(images: Tensor) -> dict[str, Tensor]:
            seen = guide.prepare(images.float() / 127.5 - 1)
            features, logits = features_and_logits(guide.network, seen)
            return {FEATURES: features.float(), LOGITS: logits.float()}

        return Extractor(answer)
