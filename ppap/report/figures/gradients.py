"""The figure `gradients_GUIDE`: what each method's guide asks for along the reverse process, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ppap.report import pictures, style
from ppap.report.pictures import Cell


class SampleRow(NamedTuple):
    """One sample of a method, by its title: the guidance gradients (H, W) at some timesteps, and the image, uint8 (H, W, C)."""

    method: str
    maps: Sequence[NDArray[Any]]
    image: NDArray[np.uint8]


def draw(rows: Sequence[SampleRow], timesteps: Sequence[int], target: Cell | None, title: str, size: int) -> Figure:
    """Draw a row for each method: its target, if there is a picture of one, its maps at these timesteps, and its sample.

    Images have `size` pixels a side.
    """
    headings = [*(f"t = {t}" for t in timesteps), "sample"]
    before = [] if target is None else [target]
    lines = []
    for method, maps, image in rows:
        shown = [partial(_show_map, values=values) for values in maps]
        cells: list[Cell] = [*before, *shown, partial(style.show, image=image)]
        lines.append(pictures.Row(method, cells))
    return pictures.sheet(lines, ["target", *headings] if before else headings, title, size)


def _show_map(axis: Axes, values: NDArray[Any]) -> None:
    """Show numbers (H, W): violet where pixels are to grow, orange where they are to shrink."""
    limit = float(abs(values).max()) or 1.0
    axis.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
