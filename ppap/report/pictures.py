"""Sheets of pictures: rows with a name above each, every picture enlarged by a whole factor, so that pixels stay sharp."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppap.report import style

Cell = Callable[[Axes], None]
"""Shows a picture in an axis."""
_SHARP = 220  # dots per inch, about: as many as whole factors give
_COARSE = 150  # of images that are so large that they are shrunk
_LINE, _NAME, _FACE = (0.125, 0.155, 0.065)  # inches: of a line of text, of a row's name; of a letter's width, at most
_SPACE = 16  # a picture's side is so many times the space between two


class Row(NamedTuple):
    """Pictures side by side, and what they are."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a sheet: a picture's side and the space between two, in dots; dots per inch; the width in inches."""

    side: int
    space: int
    dpi: float
    width: float

    @classmethod
    def of(cls, pixels: int, columns: int, widest: int) -> Sizes:
        """Choose sizes for so many pictures of `pixels` a side side by side, under headings of so many letters."""
        narrow = columns * max(pixels / style.DPI, widest * _FACE) <= style.COLUMN
        width = style.COLUMN if narrow else style.FULL
        side = pixels * max(1, round(width * _SHARP / columns / pixels))
        shrunk = max(1, int(columns * side / (width * _COARSE))) if side == pixels else 1
        side //= shrunk
        space = max(1, side // _SPACE)
        return cls(side, space, (columns * (side + space) - space) / width, width)

    def dots(self, inches: float) -> int:
        return round(inches * self.dpi)


def sheet(rows: Sequence[Row], headings: Sequence[str], title: str, pixels: int) -> Figure:
    """Draw the rows below one another, a heading over each column; pictures have `pixels` a side.

    A column's width where that is enough, else that of a page.
    """
    columns = max(len(row.cells) for row in rows)
    widest = max((len(line) for text in headings for line in text.splitlines()), default=0)
    sizes = Sizes.of(pixels, columns, widest)
    said = textwrap.fill(title, int(sizes.width / _FACE))
    head = sizes.dots(_LINE * (len(said.splitlines()) + 0.8))
    over = sizes.dots(_LINE * max((len(text.splitlines()) for text in headings), default=0))
    step = sizes.dots(_NAME) + sizes.side + sizes.space
    across, down = round(sizes.width * sizes.dpi), head + over + len(rows) * step
    figure = plt.figure(figsize=(sizes.width, down / sizes.dpi), dpi=sizes.dpi)
    figure.text(0.5, 1 - sizes.dots(0.03) / down, said, ha="center", va="top", fontsize=8)
    for place, text in enumerate(headings):
        centre = (place * (sizes.side + sizes.space) + sizes.side / 2) / across
        figure.text(centre, 1 - (head + over) / down, text, ha="center", va="bottom", fontsize=6.5)
    for number, row in enumerate(rows):
        bottom = down - head - over - (number + 1) * step + sizes.space
        name = bottom + sizes.side + sizes.dots(0.025)
        figure.text(0, name / down, row.name, va="bottom", fontsize=7, fontweight="bold")
        for place, cell in enumerate(row.cells):
            left = place * (sizes.side + sizes.space)
            axis = figure.add_axes((left / across, bottom / down, sizes.side / across, sizes.side / down))
            cell(axis)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(linewidth=0.4, color="0.7")
    return figure
