"""The contact sheet of guided images: what was asked for, and what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppap.guides.tasks.task import Task
from ppap.report import pictures, style
from ppap.utils.errors import ConfigError

_FORMATS = (".png", ".jpg", ".pdf", ".webp")
_ACROSS = 8


class Asked(NamedTuple):
    """The request: a title, the target and its task, and the picture, uint8 (H, W, C), that shows it, if any."""

    title: str
    task: Task
    target: Tensor
    picture: NDArray[np.uint8] | None


def check_format(path: Path) -> None:
    """Raise ConfigError unless a sheet can be written in the format of this path's suffix."""
    if path.suffix not in _FORMATS:
        raise ConfigError(f"{path}: a sheet's name ends in {', '.join(_FORMATS)}")


def write_sheet(path: Path, wanted: Sequence[Asked], images: NDArray[np.uint8]) -> None:
    """Write a picture: above each target, after the picture that shows it, if any; below the images (N, H, W, C)."""
    rows = []
    for title, task, target, picture in wanted:
        seen = [] if picture is None else [partial(style.show, image=picture)]
        rows.append(pictures.Row(title, [*seen, partial(task.draw, target=target)]))
    shown = [partial(style.show, image=image) for image in images]
    rows += [pictures.Row("", shown[first : first + _ACROSS]) for first in range(0, len(shown), _ACROSS)]
    style.use()
    style.write(pictures.sheet(rows, [], "", images.shape[1]), [path])
