"""Targets of samples: a whole number each, which is a class, or a place among the targets that pictures show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data import datasets
from ppap.guides.guide import Guide
from ppap.guides.target_files import target_in
from ppap.guides.tasks.task import Task
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.mixed_precision import autocast
from ppap.utils.seeds import balanced_classes
from ppap.utils.settings import DATASET, UNGUIDED
from ppap.utils.tensor_spec import PICTURE, REMEDY, TARGET, Spec, TensorSpec
from ppap.workflow.layout import Layout


def numbers_spec(count: int) -> Spec:
    """Describe the file of the numbers of `count` samples' targets."""
    return {TARGET: TensorSpec(("int64",), (count,))}


def pictures_spec(shape: tuple[int, ...]) -> Spec:
    """Describe the file of what pictures show, each target of this shape, and the pictures."""
    return {
        TARGET: TensorSpec(("float32", "int64"), ("targets", *shape)),
        PICTURE: TensorSpec(("uint8",), ("targets", "height", "width", "channels")),
    }


def numbers(layout: Layout, guide: str) -> Tensor:
    """Return the number of each sample's target, balanced within each sampling seed: (total,)."""
    sampling, chosen = layout.preset.sampling, choices(layout, guide)
    return torch.cat([balanced_classes(s, sampling.samples, chosen) for s in sampling.seeds])


def choices(layout: Layout, guide: str) -> list[int]:
    """Return the numbers of all targets of a guide; samples without guidance are counted by classes."""
    preset = layout.preset
    if guide == UNGUIDED or not preset.task(guide).of_pictures:
        return preset.target_classes
    return list(range(len(read(layout, guide)[TARGET])))


def read(layout: Layout, guide: str) -> dict[str, Tensor]:
    """Read the targets that pictures show, `target` (N, ...), and the pictures, `picture` uint8 (N, H, W, C)."""
    spec = pictures_spec(layout.preset.task_of(guide).target_shape)
    return tensor_spec.read(layout.picture_targets(guide), spec, {"guide": guide})


def words(layout: Layout, guide: str) -> list[str]:
    """Return the texts that a guide's targets are, if they are words; else none."""
    texts: list[str] = json.loads(files.read_metadata(layout.picture_targets(guide)).get("words", "[]"))
    return texts


def stated_words(layout: Layout, guide: str) -> list[str]:
    """Return the texts that the preset states, or those of the file that it names; DataError unless that has some."""
    given = layout.preset.guides[guide].targets.words
    if not isinstance(given, str):
        return list(given or ())
    return files.text_lines(Path(given), f"guides.{guide}.targets.words", "text")


def of_numbers(layout: Layout, guide: str, numbers: Tensor) -> Tensor:
    """Return the targets that have these numbers (B,), as the guide's task takes them: (B, ...)."""
    if not layout.preset.task(guide).of_pictures:
        return numbers
    return read(layout, guide)[TARGET][numbers]


def compared_pictures(task: Task) -> bool:
    """Say whether samples are compared with the pictures of their targets, at which each network looks itself."""
    return task.own_look and task.standing_target is None


def real_pictures(layout: Layout, guide: str, numbers: Tensor) -> NDArray[np.uint8]:
    """Return real pictures that show the targets with these numbers: of a class a held-out one, each in its turn."""
    if layout.preset.task(guide).of_pictures:
        return read(layout, guide)[PICTURE][numbers].numpy()
    data = datasets.load(layout.preset.dataset, "holdout", layout.model(DATASET))
    chosen = torch.empty_like(numbers)
    for number in numbers.unique().tolist():
        places = (data.classes == number).nonzero().flatten()
        if not len(places):
            raise DataError(f"no held-out picture shows class {number}")
        wanted = numbers == number
        chosen[wanted] = places[torch.arange(int(wanted.sum())) % len(places)]
    return data.images[chosen.numpy()]


def class_names(layout: Layout, guide: str) -> list[str]:
    """Return what the classes are called: by the preset, else the guide's library, else the folders of real images.

    Empty if none of them says so.
    """
    preset = layout.preset
    if preset.dataset.class_names:
        return list(preset.dataset.class_names)
    for path in layout.class_names(guide):
        with files.readable(path):
            names = json.loads(files.read_metadata(path).get("class_names", "[]"))
        if names:
            return [str(name).partition(",")[0] for name in names]
    return []


def check(layout: Layout, guide: str, path: Path, given: Tensor, first: int = 0) -> None:
    """Raise DataError unless the preset's samples from `first` on are guided to the targets with these numbers."""
    wanted = numbers(layout, guide)[first : first + len(given)]
    different = (given != wanted).nonzero().flatten()
    if len(different):
        i = int(different[0])
        raise DataError(
            f"{path}: sample {first + i} was guided to target {int(given[i])}, in the preset it is "
            f"{int(wanted[i])}; {REMEDY}"
        )


def named(layout: Layout, text: str, guide: str, network: Guide) -> tuple[Tensor, Tensor | None]:
    """Return the one target that a user asks for, a class by name or number, or a file's, and the picture there, if any.

    ConfigError if there is no such class, or no such file; DataError if the file holds no target.
    """
    preset, path = layout.preset, Path(text)
    if path.is_file():
        network.own_task.maps = preset.guides[guide].targets.maps
        with autocast(preset.runtime):
            return target_in(path, preset.dataset.shape, network)
    if preset.task(guide).of_pictures:
        raise ConfigError(f"{text}: no such file, which the guide {guide} needs as target")
    return torch.tensor([_class_of(text, layout, guide)]), None


def _class_of(text: str, layout: Layout, guide: str) -> int:
    names, classes = class_names(layout, guide), layout.preset.dataset.classes
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < classes:
        return int(text)
    there = f"{', '.join(names[:10])}{' ...' * (len(names) > 10)}; or " if names else ""
    raise ConfigError(f"{text}: {guide} knows no such class ({there}0 to {classes - 1})")
