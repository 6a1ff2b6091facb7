"""The style of figures: colours, sizes, pictures as pixels, and how a figure is written."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from numpy.typing import NDArray

from ppap.storage import files

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = "colorblind"
COLUMN = 7.0  # inches: the width of a page's text
_DPI = 200


def use() -> None:
    """Draw the figures to come in this style."""
    sns.set_theme("paper", "whitegrid", PALETTE)


def show(axis: Axes, image: NDArray[np.uint8]) -> None:
    """An image (H, W, C) of uint8, its pixels sharp."""
    grey = "gray" if image.shape[-1] == 1 else None
    axis.imshow(image.squeeze(), cmap=grey, vmin=0, vmax=255)
    bare(axis)


def bare(axis: Axes) -> None:
    """An axis of a picture has no ticks."""
    axis.set(xticks=[], yticks=[])


def name_row(axis: Axes, text: str) -> None:
    """What a row of pictures is, to the left of its first."""
    axis.set_ylabel(text, rotation=0, ha="right", va="center")


def write(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, and close it."""
    with files.whole(path) as temporary:
        figure.savefig(
            temporary, dpi=_DPI, bbox_inches="tight", format=path.suffix[1:],
            metadata={"Software": ""} if path.suffix == ".png" else None,
        )  # fmt: skip
    plt.close(figure)
