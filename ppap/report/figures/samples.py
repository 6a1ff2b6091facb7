"""The figure `samples_GUIDE`: guided samples, a row for each method, a column for each target."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ppap.report import pictures, style

_COLUMNS = 10  # at most; several of each target where these are few
_LINE = 10  # letters of a class's name over a column


def draw(
    images: Mapping[str, NDArray[np.uint8]],
    title: str,
    titles: Mapping[str, str],
    classes: Sequence[str] = (),
    shown: Sequence[pictures.Cell] = (),
) -> Figure:
    """Draw images (N, H, W, C) by method, a row each with the method's title, below what was asked of the N: names of `classes`, or `shown`.

    All methods' nth images start from the same x_T.
    """
    rows = [
        pictures.Row(titles[method], [partial(style.show, image=image) for image in each])
        for method, each in images.items()
    ]
    if shown:
        rows = [pictures.Row("target", shown), *rows]
    size = next(iter(images.values())).shape[1]
    headings = [textwrap.fill(name, _LINE) for name in classes]
    return pictures.sheet(rows, headings, title, size)


def columns(numbers: list[int]) -> list[int]:
    """Choose the places of samples to show, of these targets: 10 at most, evenly spread, each as often as fits."""
    known = sorted(set(numbers))
    count = min(_COLUMNS, len(known))
    chosen = [known[round(i * (len(known) - 1) / max(1, count - 1))] for i in range(count)]
    every = {number: [i for i, n in enumerate(numbers) if n == number] for number in chosen}
    return [place for places in every.values() for place in places[: _COLUMNS // count]]
