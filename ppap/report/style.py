"""The style of figures: widths, fonts, looks of methods, axes, and how a figure is written."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from ppap.report.titles import METHODS
from ppap.utils import files
from ppap.utils.files import Writer

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

Side = Literal["x", "y"]
COLUMN, FULL = 3.25, 6.75  # inches: the widths of a column, and of a page's text
DPI = 200
SMALL = 7  # points: ticks and legends
RATES = 0.001, 0.999
"""The least and the greatest rate that a logit axis shows; it has no place for 0 and 1."""
TIME = "timestep t, from noise to image"
_SETTINGS = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "figure.titlesize": 8.5,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL, "legend.title_fontsize": SMALL,
    "axes.linewidth": 0.6, "grid.linewidth": 0.5, "lines.linewidth": 1.3, "lines.markersize": 4,
    "axes.titlepad": 4, "axes.labelpad": 2, "xtick.major.pad": 2, "ytick.major.pad": 2,
    "figure.dpi": DPI, "savefig.dpi": "figure", "pdf.fonttype": 42, "image.interpolation": "nearest",
}  # fmt: skip
_UNDATED = {".png": {"Software": ""}, ".pdf": {"CreationDate": None}}


class Look(NamedTuple):
    """The look of a method in every figure; the marker and the dashes tell it apart without its colour."""

    colour: str
    marker: str
    dashes: Any


# Of Wong's palette (Nature Methods 2011, "Color blindness") as seaborn has it, in the order of METHODS.
_LOOKS = (
    Look("#949494", "o", (0, (1, 3))),
    Look("#d55e00", "X", (0, (4, 1.5))),
    Look("#de8f05", "P", (0, (1, 1))),
    Look("#029e73", "s", (0, (6, 1, 1, 1))),
    Look("#cc78bc", "D", (0, (3, 1, 1, 1, 1, 1))),
    Look("#0173b2", "^", "solid"),
    Look("#56b4e9", "v", (0, (5, 1))),
    Look("#ca9161", "*", "dashdot"),
    Look("#fbafe4", "h", (0, (2, 1))),
    Look("#ece133", "<", (0, (8, 2))),
    Look("#949494", "p", (0, (2, 2))),  # from here on the marker alone tells it from one above
    Look("#d55e00", "8", (0, (3, 3))),
    Look("#de8f05", ">", (0, (7, 1))),
    Look("#029e73", "d", (0, (1, 2))),
    Look("#cc78bc", "H", (0, (4, 4))),
    Look("#0173b2", "p", (0, (9, 1))),
)


def use() -> None:
    """Draw the figures to come in this style."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of all that a PDF takes
    import seaborn as sns  # which takes a second

    sns.set_theme("paper", "whitegrid", "colorblind", rc=_SETTINGS)


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Give each method its look: always the same one of those that tables have titles for."""
    own = [method for method in dict.fromkeys(methods) if method not in METHODS]
    places = {name: place for place, name in enumerate([*METHODS, *own])}
    return {name: _LOOKS[place % len(_LOOKS)] for name, place in places.items()}


def grid(rows: int, columns: int, height: float | Sequence[float], **shared: Any) -> Any:
    """Make a figure of panels, each row of this height in inches, or of its own, and its axes (rows, columns).

    A single column of panels is as wide as a column of text.
    """
    heights = [height] * rows if isinstance(height, float) else list(height)
    if len(set(heights)) > 1:
        shared["height_ratios"] = heights
    size = (FULL if columns > 1 else COLUMN, sum(heights))
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)


def line(axis: Axes, x: Any, y: Any, look: Look, label: str, marked: bool = True) -> None:
    """Draw a method's curve."""
    marker = look.marker if marked else ""
    axis.plot(x, y, color=look.colour, linestyle=look.dashes, marker=marker, label=label)


def band(axis: Axes, x: Any, y: Any, error: Any, look: Look) -> None:
    """Draw the band of an error about a method's curve; none where the error is not known."""
    if error.notna().any():
        axis.fill_between(x, y - error, y + error, color=look.colour, alpha=0.25, linewidth=0)


def legend_below(figure: Figure, axes: NDArray[Any], columns: int = 5) -> None:
    """Draw one legend of all that has a label in these axes, below the panels; in a column's width, two names a line."""
    named: dict[str, Any] = {}
    for axis in axes.flat:
        handles, names = axis.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    across = 2 if figure.get_figwidth() == COLUMN else min(columns, len(named))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=across, frameon=False)


def from_noise(axis: Axes, timesteps: int) -> None:
    """Let the x axis of T timesteps go from noise on the left to the image on the right."""
    axis.set_xlim(timesteps, 0)
    axis.set_xticks([4 * timesteps // 5, 2 * timesteps // 5, 0])
    axis.grid(visible=False, axis="x")


def log_axis(axis: Axes, which: Side, values: Iterable[float], most: int = 4) -> None:
    """Set a logarithmic axis of these values, above 0, with at most so many ticks, at round numbers."""
    low, high = min(values := list(values)), max(values)
    around = (high / low) ** 0.1 * 1.05
    low, high = low / around, high * around
    axis.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    ticks = log_ticks(low, high, most)
    set_ticks(axis, which, ticks, [f"{tick:g}" for tick in ticks])


def few_ticks(axis: Axes, which: Side, values: Iterable[float], most: int = 3) -> None:
    """Set a linear axis of these values with at most so many intervals between ticks, which spans at least 2% of them.

    Smaller differences should not look large.
    """
    low, high = min(values := list(values)), max(values)
    around = max(0.08 * (high - low), 0.01 * max(abs(low), abs(high)), 1e-9)
    axis.set(**{f"{which}lim": (low - around, high + around)})
    getattr(axis, f"{which}axis").set_major_locator(MaxNLocator(most, min_n_ticks=2))


def rate_axis(axis: Axes, which: Side, rates: Iterable[float]) -> None:
    """Set a logit axis of these rates, which lie between those of `RATES`; its ticks are in percent."""
    low, high = logit([min(rates := list(rates)), max(rates)])
    around = max(0.08 * (high - low), 0.05)
    low, high = expit([low - around, high + around]).tolist()
    axis.set(**{f"{which}scale": "logit", f"{which}lim": (low, high)})
    ticks = _rate_ticks(low, high, 8)
    set_ticks(axis, which, ticks, [f"{100 * tick:g}" for tick in ticks])


def set_ticks(axis: Axes, which: Side, ticks: Sequence[float], names: Sequence[str]) -> None:
    """Set these ticks and no others."""
    chosen = getattr(axis, f"{which}axis")
    chosen.set_ticks(ticks, names)
    chosen.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose round numbers between two positive ones, evenly spread on a logarithmic axis: the most that are allowed."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for parts in ((1, 2, 5), (1, 3), (1,)):
        ticks = [p * 10.0**d for d in decades for p in parts if low <= p * 10.0**d <= high]
        if 2 <= len(ticks) <= most:
            return ticks
    powers = [10.0**d for d in decades if low <= 10.0**d <= high]
    if len(powers) > most:
        return powers[:: -(-len(powers) // most)]
    return _even_ticks(low, high, most)


def _rate_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose round rates between two, about evenly spread on a logit axis: the most that are allowed."""
    for half in ((0.1, 0.5, 1, 2, 5, 10, 20), (0.1, 1, 10)):  # percent
        known = [*half, 50, *(100 - percent for percent in reversed(half))]
        ticks = [percent / 100 for percent in known if low < percent / 100 < high]
        if 2 <= len(ticks) <= most:
            return ticks
    return _even_ticks(low, high, 4)


def _even_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose round numbers between two, evenly spread on a linear axis."""
    return [float(tick) for tick in MaxNLocator(most - 1).tick_values(low, high) if low <= tick <= high]


def show(axis: Axes, image: NDArray[np.uint8]) -> None:
    """Show an image (H, W, C) of uint8, its pixels sharp."""
    grey = "gray" if image.shape[-1] == 1 else None
    axis.imshow(image.squeeze(), cmap=grey, vmin=0, vmax=255)


def say(axis: Axes, text: str) -> None:
    """Write a text into an axis, in several lines if it is long."""
    axis.text(0.5, 0.5, "\n".join(textwrap.wrap(text, 18)), ha="center", va="center", transform=axis.transAxes)


def write(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure in the format of each path's suffix, all or none, and close it."""

    def writer(suffix: str) -> Writer:
        return lambda path: figure.savefig(path, format=suffix[1:], metadata=_UNDATED.get(suffix))

    files.write_all({path: writer(path.suffix) for path in paths})
    plt.close(figure)
