"""The contact sheet of guided images: what was asked for, and what was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ppap.report import style
from ppap.utils.errors import ConfigError
from ppap.workflow.on_demand import Aim

FORMATS = (".png", ".jpg", ".pdf", ".webp")
_ACROSS = 8
_SIDE = 1.1  # inches of an image


def check_format(path: Path) -> None:
    """ConfigError unless a sheet can be written in the format of this path's suffix."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: a sheet's name ends in {', '.join(FORMATS)}")


def write_sheet(path: Path, wanted: list[Aim], images: NDArray[np.uint8]) -> None:
    """Write a picture: above each guide's target, and the picture that shows it, if any; below the images."""
    style.use()
    heads = sum(1 + (aim.picture is not None) for aim in wanted)
    across = max(heads, min(_ACROSS, len(images)))
    down = 1 + -(-len(images) // across)
    figure, axes = plt.subplots(down, across, figsize=(_SIDE * across, _SIDE * down), squeeze=False)
    places = iter(axes[0])
    for aim in wanted:
        _show_aim(places, aim)
    for axis, image in zip(axes[1:].flat, images, strict=False):
        style.show(axis, image)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.subplots_adjust(wspace=0.05, hspace=0.05)
    style.write(figure, [path], tight=True)


def _show_aim(places: Iterator[Axes], aim: Aim) -> None:
    """A target, after the picture that shows it."""
    if aim.picture is not None:
        axis = next(places)
        style.show(axis, aim.picture[0].numpy())
        axis.set_title("seen in", fontsize=7)
    axis = next(places)
    aim.goal.task.draw(axis, aim.target[0])
    axis.set_title(f"{aim.asked.guide}: {Path(aim.asked.target).name}", fontsize=7)
