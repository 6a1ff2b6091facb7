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
    """Draw a panel for each metric and sampler of a table (see `ppap.report.tables.table`) that has values."""
    panels = [Score("fid", "FID ↓", ""), Score("is", "Inception Score ↑", ""), *scores]
    parts = {str(sampler): rows for sampler, rows in frame.groupby("sampler", sort=False)}
    shown = {sampler: [p for p in panels if rows[p.name].notna().any()] for sampler, rows in parts.items()}
    across = min(max(map(len, shown.values())), _PANELS)
    lines = {sampler: -(-len(own) // across) for sampler, own in shown.items()}  # of panels
    heights = [_HEIGHT * rows["method"].nunique() + 0.5 for s, rows in parts.items() for _ in range(lines[s])]
    figure, axes = style.grid(len(heights), across, heights, sharey="row")
    first = 0
    for sampler, rows in parts.items():
        block = axes[first : first + lines[sampler]].ravel()
        for axis, panel in zip(block, shown[sampler], strict=False):
            _draw_panel(axis, rows, panel, guides, titles, most=7 - across)
        for axis in block[len(shown[sampler]) :]:
            axis.remove()
        block[0].set_title(sampler_title(sampler), loc="left", fontweight="bold")
        first += lines[sampler]
    style.legend_below(figure, axes[:1, :1])
    return figure


def _draw_panel(
    axis: Axes, frame: pd.DataFrame, panel: Score, guides: Sequence[str], titles: Mapping[str, str], most: int
) -> None:
    """Draw a metric of every method with one sampler, a marker for each guide; bars are standard deviations."""
    methods = [name for name in titles if name in set(frame["method"])]
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
