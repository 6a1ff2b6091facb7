"""The figure `parameters`: FID against the parameters that were trained, the paper's trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from ppap.report import style
from ppap.report.style import Look
from ppap.report.titles import sampler_title

# the place of methods that train nothing, as a share of the fewest trained parameters
_APART = 0.35
_ACROSS = 3  # panels side by side, at most
_LONG = 30  # letters of a title, of which three stand side by side


def draw(frame: pd.DataFrame, guides: Sequence[str], titles: Mapping[str, str]) -> Figure:
    """Draw a panel for each guide, and each sampler under which anything was trained, of a table (`ppap.report.tables`).

    Methods that train nothing stand at 0, left of the logarithmic axis.
    """
    trained = frame["trainable_parameters"].notna().groupby(frame["sampler"]).transform("any")
    frame = frame[trained] if trained.any() else frame
    samplers, looks = list(dict.fromkeys(frame["sampler"])), style.looks(frame["method"])
    whole = len(guides) <= _ACROSS  # a line of panels for each sampler
    across = len(guides) if whole else _ACROSS - 1
    panels = [(sampler, guide) for sampler in samplers for guide in guides]
    figure, axes = style.grid(-(-len(panels) // across), across, 1.9, sharex="col" if whole else False)
    for axis in axes.ravel()[len(panels) :]:
        axis.remove()
    for axis, (sampler, name) in zip(axes.flat, panels, strict=False):
        mine = frame[(frame["sampler"] == sampler) & (frame["guide"] == name)]
        _draw_panel(axis, mine[mine["fid"].notna()], looks, titles)
        axis.set_title(f"{sampler_title(sampler)}, guide {name}")
    for row in axes:
        row[0].set_ylabel("FID ↓")
    for axis in axes[-1]:
        axis.set_xlabel("trained parameters, all experts")
    style.legend_below(figure, axes, 4 if frame["method"].map(titles).str.len().max() < _LONG else 3)
    return figure


def _draw_panel(axis: Axes, frame: pd.DataFrame, looks: Mapping[str, Look], titles: Mapping[str, str]) -> None:
    """Draw FID of every method over its trained parameters; bars are standard deviations over sampling seeds."""
    if frame.empty:
        axis.set_axis_off()
        return
    counts = frame["trainable_parameters"].astype(float)
    nothing = _count_axis(axis, counts.dropna().tolist())
    rows = zip(frame["method"], counts.fillna(nothing), frame["fid"], frame["fid_std"], strict=True)
    for method, count, fid, spread in rows:
        look = looks[method]
        axis.errorbar(
            count, fid, yerr=spread, fmt=look.marker, color=look.colour, markersize=6,
            elinewidth=1, label=titles[method],
        )  # fmt: skip
    fid, spread = frame["fid"].astype(float), frame["fid_std"].astype(float).fillna(0)
    style.log_axis(axis, "y", [*(fid - spread).where(spread < fid, fid), *(fid + spread)], 5)


def _count_axis(axis: Axes, counts: list[float]) -> float:
    """Set a logarithmic axis of these numbers, with a place for 0 left of it, which is returned."""
    if not counts:
        axis.set_xticks([0])
        return 0.0
    nothing, write = _APART * min(counts), EngFormatter(places=0, sep="")
    style.log_axis(axis, "x", [nothing, *counts])
    ticks = style.log_ticks(min(counts) / 1.3, max(counts) * 1.3, 3)
    style.set_ticks(axis, "x", [nothing, *ticks], ["0", *map(write, ticks)])
    return nothing
