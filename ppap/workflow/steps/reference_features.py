"""The step `reference_features`: what the evaluator says of the real images that samples are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.workflow.layout import Layout
from ppap.workflow.reads.evaluation import evaluator_keys, reference_data_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class ReferenceFeatures(Step):
    """One job, once for all samples."""

    message = "Extracting the features of the real images"
    resources = "features"

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls()]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.reference]

    def inputs(self, layout: Layout) -> list[Path]:
        return [*layout.judges, *layout.reference_images]

    def keys(self, preset: Preset) -> list[str]:
        return [*evaluator_keys(preset), *reference_data_keys(preset)]

    def cost(self, costs: Costs) -> Cost:
        return costs.reference_features()

    def run(self, layout: Layout) -> None:
        from ppap.evaluation.features import write_reference

        write_reference(layout)
