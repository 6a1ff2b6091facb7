"""The step `generate`: clean images, which the diffusion model draws without guidance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config.preset import Preset
from ppap.diffusion import sampling
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.utils.settings import DIFFUSION
from ppap.workflow import goals
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout, one_of
from ppap.workflow.reads.experts import CLEAN
from ppap.workflow.reads.sampling import drawing_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Generate(Step):
    """Draw one shard of clean images."""

    message = "Drawing clean images, shard {wildcards.shard}"
    options = ("shard",)
    resources = "generate"
    priority = 40

    shard: int

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, range(len(layout.clean_sizes)))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.clean(self.shard)]

    def inputs(self, layout: Layout) -> list[Path]:
        return [layout.model(DIFFUSION)]

    def keys(self, preset: Preset) -> list[str]:
        own = [*CLEAN, "clean_images.sampler", "clean_images.seed"]
        return [*own, *drawing_keys(preset, preset.clean_images.sampler)]

    def cost(self, costs: Costs) -> Cost:
        return costs.clean_images(self.shard)

    def run(self, layout: Layout) -> None:
        preset, clean = layout.preset, layout.preset.clean_images
        size = one_of(layout.clean_sizes, self.shard)
        out, checkpoint = layout.clean(self.shard), self.checkpoint(layout)
        files.check_writable(out, checkpoint.path)
        model = models.load_model(layout, preset.runtime)
        with autocast(preset.runtime):
            images = sampling.sample(
                model,
                size,
                **preset.drawing(clean.sampler),
                seeds=goals.clean_seeds(layout, self.shard),
                batch_size=clean.batch_size,
                checkpoint=checkpoint,
                checkpoint_every=preset.sampling.checkpoint_every,
                name=f"clean images {self.shard}",
            )
        files.write_array(out, images)
        checkpoint.drop()
