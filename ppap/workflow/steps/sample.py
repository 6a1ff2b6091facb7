"""The step `sample`: guided samples, shard by shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import Run, all_runs
from ppap.diffusion import sampling
from ppap.utils import files
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.mixed_precision import autocast
from ppap.utils.settings import DIFFUSION
from ppap.workflow import goals, targets
from ppap.workflow import networks as models
from ppap.workflow.artefacts import TARGET, samples_identity
from ppap.workflow.layout import Layout, one_of
from ppap.workflow.reads.sampling import drawing_keys, real_keys, run_keys, target_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Sample(Step):
    """Draw one shard of a run, and write its images, and the numbers of their targets beside them."""

    message = "Sampling {wildcards.sampler}, guide {wildcards.guide}, {wildcards.method}, shard {wildcards.shard}"
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
        run, size = self.drawn, one_of(layout.sample_sizes, self.shard)
        first = self.shard * layout.preset.sampling.shard_size
        numbers = targets.numbers(layout, run.guide)[first : first + size]
        images_file, targets_file = self.outputs(layout)
        checkpoint = self.checkpoint(layout)
        files.check_writable(images_file, checkpoint.path)
        if layout.preset.guidance(run.method).drawn:
            images = self._images(layout, numbers, checkpoint)
        else:
            images = targets.real_pictures(layout, run.guide, numbers)
        about = samples_identity(run, self.shard, images[0])
        beside = files.tensors_writer({TARGET: numbers}, about)
        files.write_all({targets_file: beside, images_file: files.array_writer(images)})
        checkpoint.drop()

    def _images(self, layout: Layout, numbers: Tensor, checkpoint: Checkpoint) -> NDArray[np.uint8]:
        """Draw the shard, guided to the targets with these numbers."""
        preset, run = layout.preset, self.drawn
        model = models.load_model(layout, preset.runtime)
        with autocast(preset.runtime):
            return sampling.sample(
                model,
                len(numbers),
                goals.goals_of(layout, run, numbers),
                guidance=preset.guidance(run.method),
                **preset.drawing(run.sampler),
                seeds=goals.sample_seeds(layout, self.shard),
                batch_size=preset.sampling.batch_size,
                checkpoint=checkpoint,
                checkpoint_every=preset.sampling.checkpoint_every,
                name=f"{run.guide} {run.method} {run.sampler} {self.shard}",
            )
