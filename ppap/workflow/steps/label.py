"""The step `label`: a teacher's answers on the clean images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import taught_guides
from ppap.experts.teacher import answers_on
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.utils.tensor_spec import IMAGE, MIRROR
from ppap.workflow import networks, stored_images
from ppap.workflow.layout import Layout, size_of
from ppap.workflow.reads import CLEAN, finished_keys, latent_keys, network_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Label(Step):
    """Label one part of the clean images, which is several shards, by one guide."""

    message = "Labelling clean images with {wildcards.guide}, part {wildcards.part}"
    options = ("part",)
    priority = 30

    guide: str
    part: int

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        parts = range(len(layout.label_sizes))
        return [cls(guide, part) for guide in taught_guides(layout.preset) for part in parts]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.labels(self.guide, self.part)]

    def inputs(self, layout: Layout) -> list[Path]:
        clean = [layout.clean(shard) for shard in layout.shards_of_part(self.part)]
        seen = [path for image in clean for path in (image, layout.finished(image))]
        return [layout.model(self.guide), *dict.fromkeys(seen), *layout.autoencoder]

    def keys(self, preset: Preset) -> list[str]:
        own = [*CLEAN, "clean_images.label_shards", *finished_keys(preset)]
        own += latent_keys(preset) or ["dataset.mirror"]
        return [*own, *network_keys(preset, self.guide)]

    def run(self, layout: Layout) -> None:
        """Write the answers on the images, and on the mirror images where these are valid.

        In half precision, unless the preset says float32; NumericalError if an answer does not fit.
        """
        preset, out = layout.preset, layout.labels(self.guide, self.part)
        size_of(layout.label_sizes, self.part, "part")
        files.check_writable(out)
        guide = networks.load_guide(layout, self.guide)
        networks.hold_precision(layout, self.guide, guide)
        shards = layout.shards_of_part(self.part)
        firsts = stored_images.clean(layout, shards).firsts
        about = stored_images.labels_identity(layout, self.guide, firsts)
        images = stored_images.clean(layout, shards, finished=True)
        autoencoder = networks.load_autoencoder(layout)
        with autocast(preset.runtime):
            answers = answers_on(
                guide,
                images,
                _batches(preset, len(images)),
                mirror=preset.mirrored,
                **({} if autoencoder is None else {"pictures": autoencoder.decoded}),
                dtype=torch.float32 if preset.runtime.precision == "float32" else torch.float16,
                name=self.guide,
            )
        named = {IMAGE: answers.plain, MIRROR: answers.mirror}
        files.write_tensors(out, {name: each for name, each in named.items() if each is not None}, about)


def _batches(preset: Preset, count: int) -> list[Tensor]:
    """Divide the images shard by shard, so that an answer does not depend on how many shards a part has."""
    clean = preset.clean_images
    shards = torch.arange(count).split(clean.shard_size)
    return [batch for shard in shards for batch in shard.split(clean.batch_size)]
