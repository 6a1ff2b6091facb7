"""The figure `metrics`: FID, Inception Score and the tasks' scores of every row of the main table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title, sampler_title

_PANELS = 4  # side by side
_HEIGHT = 0.19  # inches of a method's row
_SHIFT = 0.36  # of a row: from the first guide's marker to the last one's


def draw(frame: pd.DataFrame, guides: Sequence[str], scores: Sequence[Score], titles: Mapping[str, str]) -> Figure:
    """Draw a panel for each metric and sampler of a table (see `ppap.report.tables.table`)."""
    panels = [Score("fid", "FID ↓", ""), Score("is", "Inception Score ↑", ""), *scores]
    samplers = list(dict.fromkeys(frame["sampler"]))
    across = min(len(panels), _PANELS)
    down = -(-len(panels) // across)  # rows of panels for each sampler
    height = _HEIGHT * len(titles) + 0.5
    figure, axes = style.grid(down * len(samplers), across, height, sharey=True)
    for place, sampler in enumerate(samplers):
        row = axes[place * down : (place + 1) * down].ravel()
        mine = frame[frame["sampler"] == sampler]
        for axis, panel in zip(row, panels, strict=False):
            _draw_panel(axis, mine, panel, guides, titles, most=7 - across)
        for axis in row[len(panels) :]:
            axis.remove()
        row[0].set_title(sampler_title(sampler), loc="left", fontweight="bold")
    style.legend_below(figure, axes[:1, :1])
    return figure


def _draw_panel(
    axis: Axes, frame: pd.DataFrame, panel: Score, guides: Sequence[str], titles: Mapping[str, str], most: int
) -> None:
    """Draw a metric of every method with one sampler, a marker for each guide; bars are standard deviations."""
    methods = list(titles)
    values = panel.factor * frame[panel.name].astype(float)
    for place, guide in enumerate(guides):
        mine = frame["guide"] == guide
        y = [methods.index(name) for name in frame.loc[mine, "method"]]
        shift = _SHIFT * (place / max(1, len(guides) - 1) - 0.5) if len(guides) > 1 else 0
        axis.errorbar(
            values[mine], [n + shift for n in y],
            xerr=panel.factor * frame.loc[mine, f"{panel.name}_std"].astype(float),
            fmt="os^Dv"[place % 5], color=f"C{place}", elinewidth=1, label=f"guide {guide}",
        )  # fmt: skip
    known, spread = values.dropna(), panel.factor * frame[f"{panel.name}_std"].astype(float)
    ends = [*known, *(values - spread).dropna(), *(values + spread).dropna()]
    if panel.name == "fid" and known.max() > 5 * known.min():
        style.log_axis(axis, "x", [end for end in ends if end > 0])
    elif ends:
        style.few_ticks(axis, "x", ends, most)
    axis.set_yticks(range(len(methods)), [titles[name] for name in methods])
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.set_xlabel(axis_title(panel))
