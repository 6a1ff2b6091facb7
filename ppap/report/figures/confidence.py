"""The figure `confidence`: how far each guide believes, along its own reverse process, that targets are met."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppap.report import style
from ppap.report.style import Look

_LINE = 22  # letters of an axis' name


class Believed(NamedTuple):
    """The belief in a run's samples at each timestep: its mean, and the edges of the band."""

    timesteps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


class GuideRow(NamedTuple):
    """A guide, what its belief is, in words, and how far it believes by each method."""

    guide: str
    belief: str
    believed: Mapping[str, Believed]


def draw(
    rows: Sequence[GuideRow], titles: Mapping[str, str], ranges: Mapping[str, Sequence[range]], timesteps: int
) -> Figure:
    """Draw a row for each guide, a column for each method of `titles`: the mean over samples, and the middle 80% of them.

    The noise `ranges` of a method's experts are shaded by turns, out of all `timesteps`; the other methods' means are
    thin grey lines.
    """
    figure, axes = style.grid(len(rows), len(titles), 1.5, sharex=True, sharey="row")
    looks = style.looks(titles)
    for row, (guide, belief, believed) in zip(axes, rows, strict=True):
        for axis, method in zip(row, titles, strict=True):
            _draw_panel(axis, believed, method, looks[method])
            covered = ranges.get(method, ())
            for shaded in covered[::2] if len(covered) > 1 else ():
                axis.axvspan(shaded.start, shaded.stop, color="0.9", linewidth=0, zorder=0)
            style.from_noise(axis, timesteps)
        lowest = min(min(each.low) for each in believed.values())
        row[0].set_ylim(min(0, 1.1 * lowest), 1.02)
        said = textwrap.fill(belief, _LINE)
        row[0].set_ylabel(f"guide {guide}\n{said}", fontsize=style.SMALL)
    for axis, method in zip(axes[0], titles.values(), strict=True):
        axis.set_title(textwrap.fill(method, 18, break_on_hyphens=False))
    figure.supxlabel(style.TIME, fontsize=8)
    return figure


def _draw_panel(axis: Axes, believed: Mapping[str, Believed], method: str, look: Look) -> None:
    """Draw one method in its colour, the others behind it."""
    for other, curve in believed.items():
        if other != method:
            axis.plot(curve.timesteps, curve.mean, color="0.7", linewidth=0.7)
    if method in believed:
        curve = believed[method]
        axis.fill_between(curve.timesteps, curve.low, curve.high, color=look.colour, alpha=0.25, linewidth=0)
        axis.plot(curve.timesteps, curve.mean, color=look.colour, linewidth=1.6)
