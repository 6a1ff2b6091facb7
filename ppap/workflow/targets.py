"""Targets of samples: a whole number each, which is a class, or a place among the targets that pictures show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ppap.config import Preset
from ppap.guides.tasks.task import Task
from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.seeds import balanced_classes
from ppap.utils.settings import UNGUIDED
from ppap.utils.tensor_spec import REMEDY
from ppap.workflow import artefacts
from ppap.workflow.artefacts import PICTURE, TARGET
from ppap.workflow.layout import Layout


def task_of(preset: Preset, model: str) -> Task:
    """The task of a guide or a judge, on the preset's images."""
    return preset.task(model)(preset.dataset)


def numbers(layout: Layout, guide: str) -> Tensor:
    """The number of each sample's target, balanced within each sampling seed: (total,)."""
    sampling, chosen = layout.preset.sampling, choices(layout, guide)
    return torch.cat([balanced_classes(s, sampling.samples, chosen) for s in sampling.seeds])


def choices(layout: Layout, guide: str) -> list[int]:
    """The numbers of all targets of a guide; samples without guidance are counted by classes."""
    preset = layout.preset
    if guide == UNGUIDED or not preset.task(guide).of_pictures:
        return preset.target_classes
    return list(range(len(read(layout, guide)[TARGET])))


def read(layout: Layout, guide: str) -> dict[str, Tensor]:
    """The targets that pictures show, `target` (N, ...), and the pictures, `picture` uint8 (N, H, W, C)."""
    spec = artefacts.shown_targets(task_of(layout.preset, guide).target_shape)
    return tensor_spec.read(layout.shown(guide), spec, {"guide": guide})


def taker(layout: Layout, guide: str) -> Callable[[Tensor], Tensor]:
    """The targets by their numbers (B,), on whose device they come, as the guide's task takes them: (B, ...)."""
    if not layout.preset.task(guide).of_pictures:
        return lambda chosen: chosen
    everything = read(layout, guide)[TARGET]
    return lambda chosen: everything[chosen.cpu()].to(chosen.device)


def pictures(layout: Layout, guide: str) -> Tensor:
    """The pictures that show the targets: uint8 (N, H, W, C)."""
    return read(layout, guide)[PICTURE]


def class_names(layout: Layout, guide: str) -> list[str]:
    """What the classes are called: the preset's word, else the guide's library's; empty if neither has one."""
    preset = layout.preset
    if preset.dataset.class_names:
        return list(preset.dataset.class_names)
    path = layout.model(guide)
    try:
        names = json.loads(files.read_metadata(path).get("class_names", "[]"))
    except ValueError:
        names = None
    if not isinstance(names, list) or len(names) not in (0, preset.dataset.classes):
        raise DataError(
            f"{path}: does not name the {preset.dataset.classes} classes of the preset; {REMEDY}"
        )
    return [str(name).partition(",")[0] for name in names]


def check(layout: Layout, guide: str, path: Path, found: Tensor, first: int = 0) -> None:
    """DataError unless these are the numbers of the targets that the preset's samples from `first` on are guided to."""
    wanted = numbers(layout, guide)[first : first + len(found)]
    different = (found != wanted).nonzero().flatten()
    if len(different):
        i = int(different[0])
        raise DataError(
            f"{path}: sample {first + i} was guided to target {int(found[i])}, in the preset it is "
            f"{int(wanted[i])}; {REMEDY}"
        )
