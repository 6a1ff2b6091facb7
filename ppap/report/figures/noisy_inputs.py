"""The figure `noisy_inputs`: how well every guide answers on held-out images, at the noise of each timestep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppap.evaluation.noisy_inputs import Scored
from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title


def draw(
    scored: Mapping[str, Sequence[Scored]], scores: Mapping[str, Score], timesteps: int, titles: Mapping[str, str]
) -> Figure:
    """Draw a panel for each guide, a curve for each method over all timesteps, and the exact posterior if there is one."""
    figure, axes = style.grid(1, len(scored), 2.5)
    for axis, (guide, each) in zip(axes[0], scored.items(), strict=True):
        _draw_panel(axis, each, scores[guide], titles)
        style.from_noise(axis, timesteps)
        axis.set_title(f"guide {guide}")
    style.legend_below(figure, axes, 3)
    return figure


def _draw_panel(axis: Axes, scored: Sequence[Scored], score: Score, titles: Mapping[str, str]) -> None:
    frame = pd.DataFrame(scored)
    frame["score"] *= score.factor
    exact = frame[frame["method"].isna()]
    if len(exact):
        axis.plot(
            exact["timestep"], exact["score"], color="black", linewidth=0.9, linestyle=(0, (2, 1)),
            label="Bayes, training images as prior",
        )  # fmt: skip
    for method, look in style.looks(frame["method"].dropna()).items():
        mine = frame[frame["method"] == method]
        if len(mine):
            style.line(axis, mine["timestep"], mine["score"], look, titles[method], False)
    named = score._replace(title=score.of_truth or score.title)
    axis.set(xlabel=style.TIME, ylabel=axis_title(named))
