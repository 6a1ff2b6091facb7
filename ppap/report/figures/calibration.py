"""The figure `calibration`: how far experts' confidence is from how often they are right, at the noise of each timestep."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ppap.report import style


def draw(errors: Mapping[str, pd.DataFrame], timesteps: int, titles: Mapping[str, str]) -> Figure:
    """Draw a panel for each guide, a curve for each method, of frames with the columns method, timestep and score.

    Of several replicates, which have as many rows, the curve is their mean, and the band its standard error.
    """
    figure, axes = style.grid(1, len(errors), 2.4)
    for axis, (guide, frame) in zip(axes[0], errors.items(), strict=True):
        for method, look in style.looks(frame["method"]).items():
            by_timestep = frame[frame["method"] == method].groupby("timestep")["score"]
            mean, error = by_timestep.mean(), by_timestep.sem()
            if len(mean):
                style.line(axis, mean.index, mean, look, titles[method], False)
                style.band(axis, mean.index, mean, error, look)
        style.from_noise(axis, timesteps)
        axis.set(title=f"guide {guide}", xlabel=style.TIME, ylabel="calibration error ↓")
    style.legend_below(figure, axes, 3)
    return figure
