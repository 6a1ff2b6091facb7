"""The step `generate`: clean images, which the diffusion model draws without guidance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.data.shards import LATENT
from ppap.diffusion import sampling
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.workflow import networks, prompts, stored_images
from ppap.workflow.layout import Layout, size_of
from ppap.workflow.reads import CLEAN, drawing_keys, prompt_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Generate(Step):
    """Draw one shard of clean images, or of latents where the diffusion model draws those."""

    message = "Drawing clean images, shard {wildcards.shard}"
    options = ("shard",)
    priority = 40

    shard: int

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, range(len(layout.clean_sizes)))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.clean(self.shard)]

    def inputs(self, layout: Layout) -> list[Path]:
        return layout.drawing

    def keys(self, preset: Preset) -> list[str]:
        own = [*CLEAN, "clean_images.sampler", "clean_images.seed"]
        return [*own, *drawing_keys(preset, preset.clean_images.sampler), *prompt_keys(preset, "clean_images")]

    def run(self, layout: Layout) -> None:
        preset, clean = layout.preset, layout.preset.clean_images
        size = size_of(layout.clean_sizes, self.shard)
        with self.unfinished(layout) as checkpoint:
            seeds = stored_images.clean_seeds(layout, self.shard)
            model = prompts.told(layout, "clean_images", networks.load_model(layout, preset.runtime), seeds)
            with autocast(preset.runtime):
                images = sampling.sample(
                    model,
                    size,
                    **preset.drawing(clean.sampler),
                    seeds=seeds,
                    batch_size=clean.batch_size,
                    checkpoint=checkpoint,
                    checkpoint_every=preset.sampling.checkpoint_every,
                    decode=model.autoencoder is None,
                    name=f"clean images {self.shard}",
                )
            files.write_array(layout.clean(self.shard), images.astype(LATENT) if model.autoencoder else images)
