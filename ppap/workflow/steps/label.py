"""The step `label`: a teacher's answers on the clean images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.config.runs import taught_guides
from ppap.workflow.layout import Layout
from ppap.workflow.reads.experts import CLEAN
from ppap.workflow.reads.networks import finished_keys, network_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Label(Step):
    """Of one part of the clean images, which is several shards, by one guide."""

    message = "Labelling clean images with {wildcards.guide}, part {wildcards.part}"
    options = ("part",)
    resources = "label"
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
        return [layout.model(self.guide), *dict.fromkeys(seen)]

    def keys(self, preset: Preset) -> list[str]:
        own = [
            *CLEAN,
            "clean_images.label_shards",
            *finished_keys(preset),
            "dataset.mirror",
        ]
        return [*own, *network_keys(preset, self.guide)]

    def cost(self, costs: Costs) -> Cost:
        return costs.labels(self.guide, self.part)

    def run(self, layout: Layout) -> None:
        from ppap.experts.teacher import label

        label(layout, self.guide, self.part)
