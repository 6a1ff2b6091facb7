"""The figure `tradeoff`: FID against how well targets are met, along the guidance scales, a curve for each method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title


def draw(frame: pd.DataFrame, scores: Mapping[str, Score], titles: Mapping[str, str]) -> Figure:
    """Draw a panel for each guide, of a table whose rows are in the order of their scales; `scores` are by guide.

    A curve goes from its smallest scale to its largest, where its marker is largest. Over replicates bars are standard
    errors.
    """
    figure, axes = style.grid(1, len(scores), 2.4)
    looks = style.looks(frame["method"])
    for axis, (name, score) in zip(axes[0], scores.items(), strict=True):
        mine = frame[frame["guide"] == name]
        for method, row in mine.groupby("method", sort=False):
            look, x = looks[str(method)], score.factor * row[score.name].astype(float)
            style.line(axis, x, row["fid"].astype(float), look, titles[str(method)])
            if "fid_error" in row:
                errors = {"xerr": score.factor * row[f"{score.name}_error"], "yerr": row["fid_error"]}
                axis.errorbar(x, row["fid"], **errors, fmt="none", ecolor=look.colour, elinewidth=0.6)
            axis.scatter(
                x, row["fid"].astype(float), marker=look.marker, color=look.colour,
                s=[12 + 26 * place for place in range(len(row))], zorder=3, linewidths=0,
            )  # fmt: skip
        style.few_ticks(axis, "x", score.factor * mine[score.name].dropna().astype(float))
        style.log_axis(axis, "y", mine["fid"].dropna().astype(float), 5)
        axis.set(title=f"guide {name}", xlabel=axis_title(score))
    axes[0][0].set_ylabel("FID ↓")
    style.legend_below(figure, axes)
    return figure
