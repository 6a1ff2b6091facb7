"""Targets that pictures show: held-out real ones, whose truth is known, or those of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from ppap.config.runs import Run
from ppap.data import datasets
from ppap.data.image_folder import centred, pictures_under, read_image
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Task
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.mixed_precision import autocast
from ppap.workflow import artefacts, real_images, targets
from ppap.workflow import networks as models
from ppap.workflow.artefacts import PICTURE, TARGET
from ppap.workflow.layout import Layout

Shown = tuple[Tensor, Tensor]
"""Targets (N, ...), and the pictures that show them, uint8 (N, H, W, C)."""


def write_targets(layout: Layout, guide: str) -> None:
    """Write the targets of a guide; ConfigError if these are classes, DataError if a file is no target."""
    preset = layout.preset
    if not preset.task(guide).of_pictures:
        raise ConfigError(f"guides.{guide}.task: its targets are classes, which need no file")
    files.check_writable(layout.shown(guide))
    folder = preset.guides[guide].targets.folder
    found, pictures = (
        _held_out(layout, guide) if folder is None else _of_folder(layout, guide, Path(folder))
    )
    shown = {TARGET: found.contiguous(), PICTURE: pictures.contiguous()}
    spec = artefacts.shown_targets(targets.task_of(preset, guide).target_shape)
    tensor_spec.check(layout.shown(guide), shown, spec, remedy="not written")
    files.write_tensors(layout.shown(guide), shown, {"guide": guide})


def real_pictures(layout: Layout, run: Run, numbers: Tensor) -> NDArray[np.uint8]:
    """Real pictures that show the targets with these numbers: of a class a held-out one, each in its turn."""
    if layout.preset.task(run.guide).of_pictures:
        return targets.pictures(layout, run.guide)[numbers].numpy()
    data = real_images.load(layout, "holdout")
    chosen = torch.empty_like(numbers)
    for number in numbers.unique().tolist():
        places = (data.classes == number).nonzero().flatten()
        if not len(places):
            raise DataError(f"no held-out picture shows class {number}")
        wanted = numbers == number
        chosen[wanted] = places[torch.arange(int(wanted.sum())) % len(places)]
    return data.images[chosen.numpy()]


def _held_out(layout: Layout, guide: str) -> Shown:
    """The first held-out real pictures, and what is true of them."""
    data = real_images.load(layout, "holdout").first(layout.preset.guides[guide].targets.count)
    return real_images.truth_of(layout.preset, data, guide), torch.from_numpy(data.images)


def _of_folder(layout: Layout, guide: str, folder: Path) -> Shown:
    """The targets in a folder's files, in the order of their names; pictures are looked at by the guide."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (guides.{guide}.targets.folder)")
    paths = pictures_under(folder, [".npy"])
    if not paths:
        raise DataError(f"{folder}: no targets there (guides.{guide}.targets.folder)")
    task = targets.task_of(layout.preset, guide)
    network = models.load_guide(layout, guide)
    with autocast(layout.preset.runtime):
        shape = layout.preset.dataset.shape
        each = [target_in(path, shape, task, network) for path in paths]
    height, width = (layout.preset.dataset.image_size,) * 2
    blank = torch.zeros((1, height, width, layout.preset.dataset.channels), dtype=torch.uint8)
    pictures = [blank if picture is None else picture for _, picture in each]
    return torch.cat([found for found, _ in each]), torch.cat(pictures)


def target_named(
    text: str, layout: Layout, guide: str, network: Guide
) -> tuple[Tensor, Tensor | None]:
    """The one target that a user asks for, a class by name or number, or a file's, and the picture there, if it is one.

    ConfigError if there is no such class, or no such file; DataError if the file holds no target.
    """
    preset, path = layout.preset, Path(text)
    if not preset.task(guide).of_pictures and not path.is_file():
        return torch.tensor([_class_of(text, layout, guide)]), None
    if not path.is_file():
        raise ConfigError(f"{text}: no such file, which the guide {guide} needs as target")
    with autocast(preset.runtime):
        return target_in(path, preset.dataset.shape, targets.task_of(preset, guide), network)


def _class_of(text: str, layout: Layout, guide: str) -> int:
    names, classes = targets.class_names(layout, guide), layout.preset.dataset.classes
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < classes:
        return int(text)
    there = f"{', '.join(names[:10])}{' ...' * (len(names) > 10)}; or " if names else ""
    raise ConfigError(f"{text}: {guide} knows no such class ({there}0 to {classes - 1})")


def target_in(
    path: Path, shape: tuple[int, int, int], task: Task, guide: Guide
) -> tuple[Tensor, Tensor | None]:
    """The one target in a file, as the task reads it, or as the guide sees the picture there, with that picture.

    The picture is resized by its shorter side and cropped to the centre: to the `shape` (C, H, W) of samples.
    """
    channels, size, _ = shape
    found = task.read_target(path)
    if found is not None:
        return found, None
    image = read_image(path)
    seen = datasets.to_tensor(fitted(image, guide.input_size, channels))
    with torch.inference_mode():
        answers = guide(seen.to(guide.device))
    return task.target_of(answers.float()).cpu(), fitted(image, size, channels)


def fitted(image: Image, size: int, channels: int) -> Tensor:
    """A picture of any size as uint8 (1, size, size, channels)."""
    return centred(image.convert("L") if channels == 1 else image, size)[None]
