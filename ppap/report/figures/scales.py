"""The figure `scales`: what methods reach at several guidance scales."""

from __future__ import annotations

from collections.abc import Mapping

from ppap.config import Preset
from ppap.config.guidance_scales import guidance_scale
from ppap.config.runs import Run, table_runs
from ppap.report.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.reads.sampling import scale_keys
from ppap.workflow.reads.tables import values_keys

from ppap.guides.tasks.task import Score
from ppap.report import style
from ppap.report.titles import axis_title, method_title


def draw(frame: pd.DataFrame, scores: Mapping[str, Score], marked: Mapping[str, float]) -> Figure:
    """Draw the score of each guide's task, and FID, of a table with a column `scale`; `marked` scales have a line.

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        return layout.table_inputs("scales")

    def keys(self, preset: Preset, guide: str) -> list[str]:
        found = [*values_keys(preset, "scales"), "figures.sampler"]
        for run in table_runs(preset, "scales"):
            found += scale_keys(preset, run.sampler, run.guide)
            found += scale_keys(preset, preset.figures.sampler, run.guide)
        return found

    def draw(self, layout: Layout, guide: str) -> Figure:
        """The first score of each guide's task, and FID; a line marks the scale of the figures' sampler."""

        from ppap.evaluation.measured import scores_of
        from ppap.report import style
        from ppap.report.tables import scaled_table
        from ppap.report.titles import axis_title, method_title

        preset, frame = layout.preset, scaled_table(layout)
        guides = list(dict.fromkeys(run.guide for run in table_runs(preset, "scales")))
        figure, axes = style.grid(2, len(guides), 1.6, style.width_of(len(guides)), sharex="col")
        looks = style.looks(frame["method"])
        for column, name in zip(axes.T, guides, strict=True):
            mine = frame[frame["guide"] == name]
            score = scores_of(preset, Run("", name, ""))[0]
            for axis, metric, factor in zip(
                column, (score.name, "fid"), (score.factor, 1), strict=True
            ):
                for method, row in mine.groupby("method", sort=False):
                    values = factor * row[metric].astype(float)
                    style.line(
                        axis, row["scale"], values, looks[str(method)], method_title(str(method))
                    )
                axis.axvline(
                    guidance_scale(preset, preset.figures.sampler, name), color="0.6", zorder=0
                )
            scales = sorted(set(mine["scale"]))
            style.log_axis(column[1], "x", scales)
            style.set_ticks(column[1], "x", scales, [f"{scale:g}" for scale in scales])
            style.log_axis(column[1], "y", mine["fid"].dropna().astype(float), 5)
            column[0].set(title=f"guide {name}", ylabel=axis_title(score))
            column[1].set(xlabel="guidance scale", ylabel="FID ↓")
        style.legend_below(figure, axes)
        return figure
