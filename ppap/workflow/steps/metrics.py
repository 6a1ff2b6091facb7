"""The step `metrics`: FID, Inception Score, precision, recall and target-class rate, of features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.config.runs import evaluated, group, judged_guides
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import answer_keys
from ppap.workflow.reads.sampling import target_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Metrics(Step):
    """Of all methods with a sampler and guide."""

    message = "Computing the metrics of {wildcards.sampler}, guide {wildcards.guide}"
    resources = "metrics"
    gpu = False

    sampler: str
    guide: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls(*pair) for pair in evaluated(layout.preset)]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.metrics(self.sampler, self.guide)]

    def inputs(self, layout: Layout) -> list[Path]:
        numbered = layout.numbered(self.guide)
        return [layout.reference, layout.features(self.sampler, self.guide), *numbered]

    def keys(self, preset: Preset) -> list[str]:
        runs = group(preset, self.sampler, self.guide)
        guides = {guide for run in runs for guide in judged_guides(preset, run)}
        tasks = [key for guide in guides for key in answer_keys(preset, guide)]
        own = ["evaluator.kind", "evaluator.neighbours", "dataset.classes", *tasks]
        return [*target_keys(preset, self.guide), *own]

    def cost(self, costs: Costs) -> Cost:
        return costs.nothing()

    def run(self, layout: Layout) -> None:
        from ppap.evaluation.metrics import write_metrics

        write_metrics(layout, self.sampler, self.guide)
