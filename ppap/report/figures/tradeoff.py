"""The figure `tradeoff`: FID against how well targets are met, along the guidance scales, a curve for each method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title


def draw(frame: pd.DataFrame, scores: Mapping[str, Score], titles: Mapping[str, str]) -> Figure:
    """Draw a panel for each guide, of a table whose rows are in the order of their scales; `scores` are by guide.

    A curve goes from its smallest scale to its largest, where its marker is largest. Over replicates bars are standard
    errors. Rates are on a logit axis, since the best ones are all near 100%. It ends at `style.RATES`, where 0% and 100% are
    drawn.
    """
    figure, axes = style.grid(1, len(scores), 2.4)
    looks = style.looks(frame["method"])
    for axis, (name, score) in zip(axes[0], scores.items(), strict=True):
        mine = frame[frame["guide"] == name]
        is_rate = score.unit == "%"
        factor = 1 if is_rate else score.factor
        met = factor * mine[score.name].astype(float)
        if is_rate:
            met = met.clip(*style.RATES)
        for method, row in mine.groupby("method", sort=False):
            look, x, fid = looks[str(method)], met[row.index], row["fid"].astype(float)
            style.line(axis, x, fid, look, titles[str(method)])
            if "fid_error" in row:
                errors = {"xerr": factor * row[f"{score.name}_error"], "yerr": row["fid_error"]}
                axis.errorbar(x, fid, **errors, fmt="none", ecolor=look.colour, elinewidth=0.6)
            sizes = np.linspace(24, 64, len(row))
            axis.scatter(x, fid, sizes, look.colour, look.marker, zorder=3, linewidths=0.4, edgecolors="white")
        (style.rate_axis if is_rate else style.few_ticks)(axis, "x", met.dropna())
        style.log_axis(axis, "y", mine["fid"].dropna().astype(float), 5)
        axis.set(title=f"guide {name}", xlabel=axis_title(score))
    axes[0][0].set_ylabel("FID ↓")
    style.legend_below(figure, axes)
    return figure
