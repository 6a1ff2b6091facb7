"""Targets in files: maps, and pictures, which a guide itself looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ppap.data.image_folder import centred, pictures_under, read_image
from ppap.data.images import to_tensor
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Task
from ppap.utils.errors import DataError

Shape = tuple[int, int, int]
"""The shape of samples: channels, height, width."""


def target_in(path: Path, shape: Shape, guide: Guide) -> tuple[Tensor, Tensor | None]:
    """Read the one target in a file (1, ...), as the guide's task has it, or as the guide sees the picture there.

    With it comes that picture, if there is one, uint8 (1, H, W, C): resized by its shorter side and cropped to the
    centre, to the `shape` of samples. DataError if the file holds no target.
    """
    channels, size, _ = shape
    target = guide.own_task.read_target(path)
    if target is not None:
        return target, None
    image = read_image(path)
    seen = to_tensor(fitted(image, guide.input_size, channels))
    with torch.inference_mode():
        answers = guide.look(seen.to(guide.device))
    return guide.own_task.target_of(answers.float()).cpu(), fitted(image, size, channels)


def targets_in(paths: Iterable[Path], shape: Shape, guide: Guide) -> tuple[Tensor, Tensor]:
    """Read the targets (N, ...) in these files, and the pictures that show them, uint8 (N, H, W, C); maps are black."""
    each = [target_in(path, shape, guide) for path in paths]
    channels, height, width = shape
    blank = torch.zeros((1, height, width, channels), dtype=torch.uint8)
    pictures = [blank if picture is None else picture for _, picture in each]
    return torch.cat([target for target, _ in each]), torch.cat(pictures)


def target_paths(folder: Path, key: str) -> list[Path]:
    """List the files of targets in a folder, by their names; DataError, with the `key` that names it, if there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder ({key})")
    paths = pictures_under(folder, [".npy", ".npz", ".pfm"])
    if not paths:
        raise DataError(f"{folder}: no targets there ({key})")
    return paths


def unreadable_targets(paths: Iterable[Path], task: Task) -> Iterator[str]:
    """Say of each file that is neither a target of the task nor a picture what is wrong with it."""
    for path in paths:
        try:
            if task.read_target(path) is None:
                read_image(path)
        except DataError as error:
            yield str(error)


def fitted(image: Image, size: int, channels: int) -> Tensor:
    """Return a picture of any size as uint8 (1, size, size, channels)."""
    return centred(image.convert("L") if channels == 1 else image, size)[None]
