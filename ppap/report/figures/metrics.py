"""The figure `metrics`: FID, Inception Score and the tasks' scores of every row of the main table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ppap.config import Preset
from ppap.config.runs import main_guides, table_runs
from ppap.report.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.reads.tables import values_keys

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title, method_title, sampler_title

_PANELS = 4  # side by side
_HEIGHT = 0.19  # inches of a method's row
_SHIFT = 0.36  # of a row: from the first guide's marker to the last one's


class Panel(NamedTuple):
    """A metric: its column, its name on the axis, what values are multiplied with."""

    metric: str
    title: str
    factor: float = 1


class Metrics(FigureKind):
    name = "metrics"

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        return layout.table_inputs("main")

    def keys(self, preset: Preset, guide: str) -> list[str]:
        return values_keys(preset, "main")

    def draw(self, layout: Layout, guide: str) -> Figure:
        from ppap.evaluation.measured import scores_of
        from ppap.report import style
        from ppap.report.tables import table
        from ppap.report.titles import axis_title, sampler_title

        preset, frame = layout.preset, table(layout, "main")
        scores = scores_of(preset, *table_runs(preset, "main"))
        panels = [Panel("fid", "FID ↓"), Panel("is", "Inception Score ↑")]
        panels += [Panel(score.name, axis_title(score), score.factor) for score in scores]
        samplers, names = (
            list(dict.fromkeys(frame["sampler"])),
            list(dict.fromkeys(frame["method"])),
        )
        guides = main_guides(preset)
        across = min(len(panels), _PANELS)
        down = -(-len(panels) // across)  # rows of panels for each sampler
        height = _HEIGHT * len(names) + 0.5
        figure, axes = style.grid(down * len(samplers), across, height, sharey=True)
        for place, sampler in enumerate(samplers):
            row = axes[place * down : (place + 1) * down].ravel()
            mine = frame[frame["sampler"] == sampler]
            for axis, panel in zip(row, panels, strict=False):
                _draw_panel(axis, mine, panel, guides, names, most=7 - across)
            for axis in row[len(panels) :]:
                axis.remove()
            row[0].set_title(sampler_title(sampler), loc="left", fontweight="bold")
        style.legend_below(figure, axes[:1, :1])
        return figure


def _draw_panel(
    axis: Axes,
    frame: pd.DataFrame,
    panel: Panel,
    guides: Sequence[str],
    methods: list[str],
    most: int,
) -> None:
    """Draw a metric of every method with one sampler, a marker for each guide; bars are standard deviations."""
    values = panel.factor * frame[panel.metric].astype(float)
    for place, guide in enumerate(guides):
        mine = frame["guide"] == guide
        y = [methods.index(name) for name in frame.loc[mine, "method"]]
        shift = _SHIFT * (place / max(1, len(guides) - 1) - 0.5) if len(guides) > 1 else 0
        axis.errorbar(
            values[mine], [n + shift for n in y],
            xerr=panel.factor * frame.loc[mine, f"{panel.metric}_std"].astype(float),
            fmt="os^Dv"[place % 5], color=style.guide_colour(place), elinewidth=1, label=f"guide {guide}",
        )  # fmt: skip
    known, spread = values.dropna(), panel.factor * frame[f"{panel.metric}_std"].astype(float)
    ends = [*known, *(values - spread).dropna(), *(values + spread).dropna()]
    if panel.metric == "fid" and known.max() > 5 * known.min():
        style.log_axis(axis, "x", [end for end in ends if end > 0])
    elif ends:
        style.few_ticks(axis, "x", ends, most)
    axis.set_yticks(range(len(methods)), [method_title(name) for name in methods])
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.set_xlabel(panel.title)
