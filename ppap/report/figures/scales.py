"""The figure `scales`: what methods reach at several guidance scales."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title


def draw(
    frame: pd.DataFrame, scores: Mapping[str, Score], marked: Mapping[str, float], titles: Mapping[str, str]
) -> Figure:
    """Draw the score of each guide's task, and FID, of a table with a column `scale`; `marked` scales have a line.

    `scores` and `marked` are by guide. Over replicates bands are standard errors.
    """
    figure, axes = style.grid(2, len(scores), 1.6, sharex="col")
    looks = style.looks(frame["method"])
    for column, (name, score) in zip(axes.T, scores.items(), strict=True):
        mine = frame[frame["guide"] == name]
        for axis, metric, factor in zip(column, (score.name, "fid"), (score.factor, 1), strict=True):
            for method, row in mine.groupby("method", sort=False):
                values, look = factor * row[metric].astype(float), looks[str(method)]
                style.line(axis, row["scale"], values, look, titles[str(method)])
                if f"{metric}_error" in row:
                    style.band(axis, row["scale"], values, factor * row[f"{metric}_error"], look)
            axis.axvline(marked[name], color="0.6", zorder=0)
        scales = sorted(set(mine["scale"]))
        style.log_axis(column[1], "x", scales)
        style.set_ticks(column[1], "x", scales, [f"{scale:g}" for scale in scales])
        style.log_axis(column[1], "y", mine["fid"].dropna().astype(float), 5)
        column[0].set(title=f"guide {name}", ylabel=axis_title(score))
        column[1].set(xlabel="guidance scale", ylabel="FID ↓")
    style.legend_below(figure, axes)
    return figure
