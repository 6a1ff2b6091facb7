"""The step `sample`: guided samples, shard by shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.config.runs import Run, all_runs
from ppap.utils.settings import DIFFUSION
from ppap.workflow.layout import Layout
from ppap.workflow.reads.sampling import drawing_keys, real_keys, run_keys, target_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Sample(Step):
    """Of one shard of a run."""

    message = (
        "Sampling {wildcards.sampler}, guide {wildcards.guide}, {wildcards.method}, "
        "shard {wildcards.shard}"
    )
    options = ("shard",)
    resources = "sample"
    priority = 10

    sampler: str
    guide: str
    method: str
    shard: int

    @property
    def drawn(self) -> Run:
        return Run(self.sampler, self.guide, self.method)

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        shards = range(len(layout.sample_sizes))
        return [cls(*run, shard) for run in all_runs(layout.preset) for shard in shards]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.samples(self.drawn, self.shard), layout.targets(self.drawn, self.shard)]

    def inputs(self, layout: Layout) -> list[Path]:
        if layout.preset.guidance(self.method).drawn:
            return [layout.model(DIFFUSION), *layout.guiding(self.drawn)]
        return layout.numbered(self.guide) or layout.dataset

    def keys(self, preset: Preset) -> list[str]:
        numbers = [*target_keys(preset, self.guide), "sampling.shard_size"]
        own = [*numbers, *run_keys(preset, *self.drawn)]
        if preset.guidance(self.method).drawn:
            return [*own, *drawing_keys(preset, self.sampler)]
        return [*own, *real_keys(preset, self.drawn)]

    def cost(self, costs: Costs) -> Cost:
        return costs.samples(self.drawn, self.shard)

    def fellows(self) -> tuple[str, ...]:
        return self.sampler, self.guide

    def length(self, preset: Preset) -> int:
        return len(preset.schedule(self.sampler)) if preset.guidance(self.method).drawn else 1

    def run(self, layout: Layout) -> None:
        from ppap.workflow.drawing import sample

        sample(layout, self.drawn, self.shard, self.checkpoint(layout))
