"""The step `sample`: guided samples, shard by shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import Run, all_runs
from ppap.diffusion import sampling
from ppap.utils import files
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.mixed_precision import autocast
from ppap.utils.tensor_spec import TARGET
from ppap.workflow import networks, prompts, stored_images, targets
from ppap.workflow.experts import goals_of
from ppap.workflow.layout import Layout, size_of
from ppap.workflow.reads import data_keys, drawing_keys, picture_target_keys, prompt_keys, run_keys, target_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Sample(Step):
    """Draw one shard of a run, and write its images, and the numbers of their targets beside them."""

    message = "Sampling {wildcards.sampler}, guide {wildcards.guide}, {wildcards.method}, shard {wildcards.shard}"
    options = ("shard",)
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
            return [*layout.drawing, *layout.guidance(self.drawn)]
        return layout.target_file(self.guide) or layout.dataset

    def keys(self, preset: Preset) -> list[str]:
        numbers = [*target_keys(preset, self.guide), "sampling.shard_size"]
        own = [*numbers, *run_keys(preset, *self.drawn)]
        if preset.guidance(self.method).drawn:
            return [*own, *drawing_keys(preset, self.sampler), *prompt_keys(preset, "sampling")]
        of_pictures = preset.task(self.guide).of_pictures
        return [*own, *(picture_target_keys(preset, self.guide) if of_pictures else data_keys(preset))]

    def run(self, layout: Layout) -> None:
        run, size = self.drawn, size_of(layout.sample_sizes, self.shard)
        first = self.shard * layout.preset.sampling.shard_size
        numbers = targets.numbers(layout, run.guide)[first : first + size]
        images_file, targets_file = self.outputs(layout)
        with self.unfinished(layout) as checkpoint:
            if layout.preset.guidance(run.method).drawn:
                images = self._images(layout, numbers, checkpoint)
            else:
                images = targets.real_pictures(layout, run.guide, numbers)
            about = stored_images.samples_identity(run, self.shard, images[0])
            beside = files.tensors_writer({TARGET: numbers}, about)
            files.write_all({targets_file: beside, images_file: files.array_writer(images)})

    def _images(self, layout: Layout, numbers: Tensor, checkpoint: Checkpoint) -> NDArray[np.uint8]:
        preset, run = layout.preset, self.drawn
        seeds = stored_images.sample_seeds(layout, self.shard)
        model = prompts.told(layout, "sampling", networks.load_model(layout, preset.runtime), seeds)
        with autocast(preset.runtime):
            return sampling.sample(
                model,
                len(numbers),
                goals_of(layout, run, numbers),
                guidance=preset.guidance(run.method),
                **preset.drawing(run.sampler),
                seeds=seeds,
                batch_size=preset.sampling.batch_size,
                checkpoint=checkpoint,
                checkpoint_every=preset.sampling.checkpoint_every,
                diverging="grey",
                name=f"{run.guide} {run.method} {run.sampler} {self.shard}",
            )
