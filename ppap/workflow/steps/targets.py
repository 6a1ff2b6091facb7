"""The step `targets`: what held-out pictures, or those of a folder, show: depth, labels; samples are guided to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import guides_of_pictures
from ppap.guides.target_files import target_paths, targets_in
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import autocast
from ppap.utils.tensor_spec import PICTURE, TARGET
from ppap.workflow import networks, stored_images
from ppap.workflow.layout import Layout
from ppap.workflow.reads import IMAGE, answer_keys, data_keys, network_keys
from ppap.workflow.step import Step
from ppap.workflow.targets import pictures_spec


@dataclass(frozen=True)
class Targets(Step):
    """Write the targets of one guide whose task is about more than classes, and the pictures that show them."""

    message = "Reading the targets of {wildcards.guide}"
    resources = "label"
    priority = 30

    guide: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, guides_of_pictures(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.picture_targets(self.guide)]

    def inputs(self, layout: Layout) -> list[Path]:
        data = layout.dataset if layout.preset.guides[self.guide].targets.folder is None else []
        return [*data, *([layout.model(self.guide)] if self._looks(layout.preset) else [])]

    def keys(self, preset: Preset) -> list[str]:
        own = [f"guides.{self.guide}.targets.folder", *answer_keys(preset, self.guide)]
        own += network_keys(preset, self.guide) if self._looks(preset) else []
        if preset.guides[self.guide].targets.folder is None:
            return [*own, f"guides.{self.guide}.targets.count", *data_keys(preset)]
        return [*own, f"guides.{self.guide}.targets.maps", *IMAGE]

    def _looks(self, preset: Preset) -> bool:
        """Say whether the guide itself is asked what pictures show."""
        return preset.guides[self.guide].targets.folder is not None or preset.task(self.guide).own_look

    def run(self, layout: Layout) -> None:
        """Write the file; ConfigError if the guide's targets are classes, DataError if a file is no target."""
        preset, guide, out = layout.preset, self.guide, layout.picture_targets(self.guide)
        if not preset.task(guide).of_pictures:
            raise ConfigError(f"guides.{guide}.task: its targets are classes, which need no file")
        files.check_writable(out)
        folder = preset.guides[guide].targets.folder
        shown, pictures = _held_out(layout, guide) if folder is None else _of_folder(layout, guide, Path(folder))
        standing = preset.task_of(guide).standing_target
        shown = shown if standing is None else standing.expand_as(shown)
        tensors = {TARGET: shown.contiguous(), PICTURE: pictures.contiguous()}
        spec = pictures_spec(preset.task_of(guide).target_shape)
        tensor_spec.check(out, tensors, spec, remedy="not written")
        files.write_tensors(out, tensors, {"guide": guide})


def _held_out(layout: Layout, guide: str) -> tuple[Tensor, Tensor]:
    data = stored_images.real(layout, "holdout").first(layout.preset.guides[guide].targets.count)
    return stored_images.truth_of(layout, data, guide), torch.from_numpy(data.images)


def _of_folder(layout: Layout, guide: str, folder: Path) -> tuple[Tensor, Tensor]:
    paths = target_paths(folder, f"guides.{guide}.targets.folder")
    network = networks.load_guide(layout, guide)
    network.own_task.maps = layout.preset.guides[guide].targets.maps
    with autocast(layout.preset.runtime):
        return targets_in(paths, layout.preset.dataset.shape, network)
