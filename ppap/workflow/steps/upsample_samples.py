"""The step `upsample_samples`: guided samples, drawn larger by the second stage of a cascade."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from ppap.config.preset import Preset
from ppap.config.runs import Run, all_runs
from ppap.data.shards import ShardedImages
from ppap.diffusion import sampling
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks, stored_images
from ppap.workflow.layout import Layout, size_of
from ppap.workflow.reads import IMAGE, upsampling_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class UpsampleSamples(Step):
    """Draw one shard of a run larger."""

    message = "Upsampling {wildcards.sampler}, guide {wildcards.guide}, {wildcards.method}, shard {wildcards.shard}"
    options = ("shard",)
    resources = "upsample"

    sampler: str
    guide: str
    method: str
    shard: int

    @property
    def drawn(self) -> Run:
        return Run(self.sampler, self.guide, self.method)

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        if not layout.preset.diffusion.upsampling:
            return []
        shards = range(len(layout.sample_sizes))
        return [cls(*run, shard) for run in all_runs(layout.preset) for shard in shards]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.upsampled(layout.samples(self.drawn, self.shard))]

    def inputs(self, layout: Layout) -> list[Path]:
        return [layout.model(DIFFUSION), layout.samples(self.drawn, self.shard)]

    def keys(self, preset: Preset) -> list[str]:
        return ["sampling.samples", "sampling.seeds", "sampling.shard_size", *IMAGE, *upsampling_keys(preset)]

    def run(self, layout: Layout) -> None:
        """Write the shard; ConfigError if the diffusion model has no second stage."""
        run = self.drawn
        size_of(layout.sample_sizes, self.shard)
        images, seeds = stored_images.drawn(layout, run, self.shard), stored_images.sample_seeds(layout, self.shard)
        name = f"{run.guide} {run.method} {run.sampler} {self.shard}, upsampled"
        write_upsampled(layout, self, images, seeds, name)


def write_upsampled(layout: Layout, job: Step, images: ShardedImages, seeds: sampling.Seeds, name: str) -> None:
    preset, spec = layout.preset, layout.preset.diffusion.upsampling
    with job.unfinished(layout) as checkpoint:
        second = networks.load_second_stage(layout)
        assert spec is not None  # or there is no second stage
        with autocast(preset.runtime):
            large = sampling.upsample(
                second,
                images.take(torch.arange(len(images))),
                seeds,
                **spec.drawing(preset.module_folders),
                batch_size=spec.batch_size,
                checkpoint=checkpoint,
                checkpoint_every=preset.sampling.checkpoint_every,
                name=name,
            )
        files.write_array(job.outputs(layout)[0], large)
