"""The step `features`: what the evaluator says of the samples of all methods with a sampler and guide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ppap.config import Preset
from ppap.config.runs import Run, evaluated, group, judged_guides
from ppap.workflow.layout import Layout
from ppap.workflow.reads.evaluation import evaluator_keys, judged_keys
from ppap.workflow.reads.networks import finished_keys
from ppap.workflow.reads.sampling import target_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Features(Step):
    """Of the methods with a sampler and guide, in one job: a set takes seconds, a process's start as long."""

    message = "Extracting the features of {wildcards.sampler}, guide {wildcards.guide}"
    resources = "features"

    sampler: str
    guide: str
    methods: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    """The guides whose targets the samples are held against: their own, or all that share them."""

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls.of(layout, sampler=s, guide=g) for s, g in evaluated(layout.preset)]

    @classmethod
    def of(cls, layout: Layout, **wildcards: Any) -> Self:
        job = cls(**wildcards)
        runs = group(layout.preset, job.sampler, job.guide)
        return cls.of_methods(layout, job.sampler, job.guide, [run.method for run in runs])

    @classmethod
    def of_methods(cls, layout: Layout, sampler: str, guide: str, methods: Sequence[str]) -> Self:
        """The job for some of the methods; all that the file has are held against the same targets."""
        runs = [Run(sampler, guide, method) for method in methods]
        runs = list(dict.fromkeys([*group(layout.preset, sampler, guide), *runs]))
        against = (other for run in runs for other in judged_guides(layout.preset, run))
        return cls(sampler, guide, tuple(methods), tuple(dict.fromkeys(against)))

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
        samples += [layout.finished(path) for path in samples if path.suffix == ".npy"]
        return list(dict.fromkeys([*layout.judges, *samples, *layout.held_against(self.against)]))

    def arguments(self) -> list[str]:
        return [self.sampler, self.guide, *self.methods]

    def keys(self, preset: Preset) -> list[str]:
        samples = [
            *target_keys(preset, self.guide),
            "sampling.shard_size",
            *finished_keys(preset),
        ]
        against = [key for guide in self.against for key in judged_keys(preset, guide)]
        return [*samples, *evaluator_keys(preset), *against]

    def cost(self, costs: Costs) -> Cost:
        return costs.features(len(self.methods), self.against)

    def run(self, layout: Layout) -> None:
        from ppap.evaluation.features import write_features

        write_features(layout, self.runs, self.against)
