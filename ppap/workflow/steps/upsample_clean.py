"""The step `upsample_clean`: clean images, drawn larger by the second stage of a cascade, for teachers to see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.utils.settings import DIFFUSION
from ppap.workflow import stored_images
from ppap.workflow.layout import Layout, size_of
from ppap.workflow.reads import CLEAN, IMAGE, upsampling_keys
from ppap.workflow.step import Step
from ppap.workflow.steps.upsample_samples import write_upsampled


@dataclass(frozen=True)
class UpsampleClean(Step):
    """Draw one shard of clean images larger."""

    message = "Upsampling clean images, shard {wildcards.shard}"
    options = ("shard",)
    resources = "upsample"
    priority = 35

    shard: int

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, range(len(layout.clean_sizes)) if layout.preset.diffusion.upsampling else ())

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.upsampled(layout.clean(self.shard))]

    def inputs(self, layout: Layout) -> list[Path]:
        return [layout.model(DIFFUSION), layout.clean(self.shard)]

    def keys(self, preset: Preset) -> list[str]:
        return [*CLEAN, "clean_images.seed", *IMAGE, *upsampling_keys(preset)]

    def run(self, layout: Layout) -> None:
        """Write the shard; ConfigError if the diffusion model has no second stage."""
        size_of(layout.clean_sizes, self.shard)
        images = stored_images.clean(layout, range(self.shard, self.shard + 1))
        seeds = stored_images.clean_seeds(layout, self.shard)
        write_upsampled(layout, self, images, seeds, f"clean images {self.shard}, upsampled")
