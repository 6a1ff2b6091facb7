"""The contact sheet of guided images: what was asked for, and what was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from ppap.guides.tasks.task import Task
from ppap.report import style
from ppap.utils.errors import ConfigError

FORMATS = (".png", ".jpg", ".pdf", ".webp")
_ACROSS = 8
_SIDE = 1.1  # inches of an image


def check_format(path: Path) -> None:
    """ConfigError unless a sheet can be written in the format of this path's suffix."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: a sheet's name ends in {', '.join(FORMATS)}")


class Asked(NamedTuple):
    """What was asked for: a title, the target and its task, and the picture, uint8 (H, W, C), that shows it, if any."""

    title: str
    task: Task
    target: Tensor
    picture: NDArray[np.uint8] | None


def write_sheet(path: Path, wanted: Sequence[Asked], images: NDArray[np.uint8]) -> None:
    """Write a picture: above each target, and the picture that shows it, if any; below the images."""
    style.use()
    heads = sum(1 + (asked.picture is not None) for asked in wanted)
    across = max(heads, min(_ACROSS, len(images)))
    down = 1 + -(-len(images) // across)
    figure, axes = plt.subplots(down, across, figsize=(_SIDE * across, _SIDE * down), squeeze=False)
    places = iter(axes[0])
    for asked in wanted:
        _show_asked(places, asked)
    for axis, image in zip(axes[1:].flat, images, strict=False):
        style.show(axis, image)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.subplots_adjust(wspace=0.05, hspace=0.05)
    style.write(figure, [path], tight=True)


def _show_asked(places: Iterator[Axes], asked: Asked) -> None:
    """Show a target, after the picture that shows it."""
    if asked.picture is not None:
        axis = next(places)
        style.show(axis, asked.picture)
        axis.set_title("seen in", fontsize=7)
    axis = next(places)
    asked.task.draw(axis, asked.target)
    axis.set_title(asked.title, fontsize=7)
