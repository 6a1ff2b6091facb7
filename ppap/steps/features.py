"""The step `features`: what the evaluator says of the samples of all methods with a sampler and guide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ppap.graph.layout import Layout
from ppap.graph.step import Step
from ppap.preset import Preset, reads
from ppap.preset.runs import Run, evaluated, group

if TYPE_CHECKING:
    from ppap.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Features(Step):
    """Of the methods with a sampler and guide, in one job: a set takes seconds, a process's start as long."""

    message = "Extracting the features of {wildcards.sampler}, guide {wildcards.guide}"
    resources = "features"

    sampler: str
    guide: str
    methods: tuple[str, ...] = ()

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls.of(layout, sampler=s, guide=g) for s, g in evaluated(layout.preset)]

    @classmethod
    def of(cls, layout: Layout, **wildcards: Any) -> Self:
        job = cls(**wildcards)
        runs = group(layout.preset, job.sampler, job.guide)
        return cls(job.sampler, job.guide, tuple(run.method for run in runs))

    @property
    def runs(self) -> list[Run]:
        return [Run(self.sampler, self.guide, method) for method in self.methods]

    def outputs(self, layout: Layout) -> list[Path]:
        return [
            layout.features(self.sampler, self.guide),
            layout.archives(self.sampler, self.guide),
        ]

    def inputs(self, layout: Layout) -> list[Path]:
        shards = range(len(layout.sample_sizes))
        places = (layout.samples, layout.targets)
        samples = [place(run, shard) for run in self.runs for shard in shards for place in places]
        return [*layout.judges, *samples]

    def arguments(self) -> list[str]:
        return [self.sampler, self.guide, *self.methods]

    def keys(self, preset: Preset) -> list[str]:
        samples = [*reads.target_keys(), "sampling.shard_size", *reads.IMAGE]
        return [*samples, *reads.evaluator_keys(preset)]

    def cost(self, costs: Costs) -> Cost:
        return costs.features(len(self.methods))

    def run(self, layout: Layout) -> None:
        from ppap.evaluation.features import write_features

        write_features(layout, self.runs)
