"""The step `targets`: what held-out pictures, or those of a folder, show, or words say; samples are guided to it."""

from __future__ import annotations

import json
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
from ppap.workflow import networks, stored_images, targets
from ppap.workflow.layout import Layout
from ppap.workflow.reads import IMAGE, answer_keys, data_keys, network_keys
from ppap.workflow.step import Step


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
        data = layout.dataset if layout.preset.guides[self.guide].targets.held_out else []
        return [*data, *([layout.model(self.guide)] if self._looks(layout.preset) else [])]

    def keys(self, preset: Preset) -> list[str]:
        given, key = preset.guides[self.guide].targets, f"guides.{self.guide}.targets"
        own = [f"{key}.words", *answer_keys(preset, self.guide)]
        own += network_keys(preset, self.guide) if self._looks(preset) else []
        if given.words is not None:
            return [*own, *IMAGE]
        if given.folder is not None:
            return [*own, f"{key}.folder", f"{key}.maps", *IMAGE]
        return [*own, f"{key}.folder", f"{key}.count", *data_keys(preset)]

    def _looks(self, preset: Preset) -> bool:
        """Say whether the guide itself is asked what pictures show, or words say."""
        return not preset.guides[self.guide].targets.held_out or preset.task(self.guide).own_look

    def run(self, layout: Layout) -> None:
        """Write the file; ConfigError if the guide's targets are classes, DataError if a file is no target."""
        preset, guide, out = layout.preset, self.guide, layout.picture_targets(self.guide)
        if not preset.task(guide).of_pictures:
            raise ConfigError(f"guides.{guide}.task: its targets are classes, which need no file")
        files.check_writable(out)
        given, texts = preset.guides[guide].targets, targets.stated_words(layout, guide)
        if texts:
            shown, pictures = _of_words(layout, guide, texts)
        elif given.folder is None:
            shown, pictures = _held_out(layout, guide)
        else:
            shown, pictures = _of_folder(layout, guide, Path(given.folder))
        standing = preset.task_of(guide).standing_target
        shown = shown if standing is None else standing.expand_as(shown)
        tensors = {TARGET: shown.contiguous(), PICTURE: pictures.contiguous()}
        spec = targets.pictures_spec(preset.task_of(guide).target_shape)
        tensor_spec.check(out, tensors, spec, remedy="not written")
        files.write_tensors(out, tensors, {"guide": guide} | ({"words": json.dumps(texts)} if texts else {}))


def _held_out(layout: Layout, guide: str) -> tuple[Tensor, Tensor]:
    data = stored_images.real(layout, "holdout").first(layout.preset.guides[guide].targets.count)
    return stored_images.truth_of(layout, data, guide), torch.from_numpy(data.images)


def _of_words(layout: Layout, guide: str, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Return the vectors of words, and black in the place of pictures."""
    reader = networks.load_guide(layout, guide).reader
    if reader is None:
        raise ConfigError(f"guides.{guide}.targets.words: its model has no text tower, which reads them")
    channels, height, width = layout.preset.dataset.shape
    return reader(texts), torch.zeros((len(texts), height, width, channels), dtype=torch.uint8)


def _of_folder(layout: Layout, guide: str, folder: Path) -> tuple[Tensor, Tensor]:
    paths = target_paths(folder, f"guides.{guide}.targets.folder")
    network = networks.load_guide(layout, guide)
    network.own_task.maps = layout.preset.guides[guide].targets.maps
    with autocast(layout.preset.runtime):
        return targets_in(paths, layout.preset.dataset.shape, network)
