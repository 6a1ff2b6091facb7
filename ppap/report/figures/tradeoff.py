"""The figure `tradeoff`: FID against how well targets are met, along the guidance scales, a curve for each method."""

from __future__ import annotations

from collections.abc import Mapping

from ppap.config import Preset
from ppap.config.runs import Run, table_runs
from ppap.report.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.reads.sampling import scale_keys
from ppap.workflow.reads.tables import values_keys

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title, method_title


def draw(frame: pd.DataFrame, scores: Mapping[str, Score]) -> Figure:
    """Draw a panel for each guide, of a table whose rows are in the order of their scales; `scores` are by guide.

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        return layout.table_inputs("scales")

    def keys(self, preset: Preset, guide: str) -> list[str]:
        scales = [
            key
            for run in table_runs(preset, "scales")
            for key in scale_keys(preset, run.sampler, run.guide)
        ]
        return [*values_keys(preset, "scales"), *scales]

    def draw(self, layout: Layout, guide: str) -> Figure:
        """A curve goes from its smallest scale to its largest, where its marker is largest."""
        from ppap.evaluation.measured import scores_of
        from ppap.report import style
        from ppap.report.tables import scaled_table
        from ppap.report.titles import axis_title, method_title

        preset, frame = layout.preset, scaled_table(layout)
        guides = list(dict.fromkeys(run.guide for run in table_runs(preset, "scales")))
        figure, axes = style.grid(1, len(guides), 2.4, style.width_of(len(guides)))
        looks = style.looks(frame["method"])
        for axis, name in zip(axes[0], guides, strict=True):
            mine = frame[frame["guide"] == name]
            score = scores_of(preset, Run("", name, ""))[0]
            for method, row in mine.groupby("method", sort=False):
                look, x = looks[str(method)], score.factor * row[score.name].astype(float)
                style.line(axis, x, row["fid"].astype(float), look, method_title(str(method)))
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
