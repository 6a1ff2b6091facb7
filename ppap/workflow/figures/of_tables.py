"""The figures of tables: `metrics` and `parameters` of the main one, `scales` and `tradeoff` of the one of scales."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from ppap.config.guidance_scales import guidance_scale
from ppap.config.preset import Preset
from ppap.config.runs import main_guides, table_runs, titles
from ppap.guides.tasks.task import Score
from ppap.report.figures import metrics, parameters, scales, tradeoff
from ppap.workflow import reads
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.reads import scale_keys
from ppap.workflow.table_rows import scaled_table, table, table_scores


class Metrics(FigureKind):
    def draw(self, layout: Layout, guide: str) -> Figure:
        preset = layout.preset
        return metrics.draw(
            table(layout, "main"), main_guides(preset), table_scores(preset, "main"), _titles(layout, "main")
        )


class Parameters(FigureKind):
    def draw(self, layout: Layout, guide: str) -> Figure:
        return parameters.draw(table(layout, "main"), main_guides(layout.preset), _titles(layout, "main"))


class Tradeoff(FigureKind):
    of_replicates = True
    table = "scales"

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        return layout.study_inputs(self.table) if layout.preset.replicates else super().inputs(layout, guide)

    def keys(self, preset: Preset, guide: str) -> list[str]:
        if preset.replicates:
            return reads.study_keys(preset, self.table)
        scales = (key for run in table_runs(preset, self.table) for key in scale_keys(preset, *run))
        return [*super().keys(preset, guide), *scales, "replicates"]

    def draw(self, layout: Layout, guide: str) -> Figure:
        return tradeoff.draw(scaled_table(layout), _first_scores(layout.preset), _titles(layout, "scales"))


class Scales(Tradeoff):
    def keys(self, preset: Preset, guide: str) -> list[str]:
        guides, sampler = _first_scores(preset), preset.figures.sampler
        marked = [key for name in guides for key in scale_keys(preset, sampler, name)]
        return [*super().keys(preset, guide), "figures.sampler", *marked]

    def draw(self, layout: Layout, guide: str) -> Figure:
        preset, scores = layout.preset, _first_scores(layout.preset)
        marked = {name: guidance_scale(preset, preset.figures.sampler, name) for name in scores}
        return scales.draw(scaled_table(layout), scores, marked, _titles(layout, "scales"))


def _titles(layout: Layout, name: str) -> dict[str, str]:
    return titles(layout.preset, table_runs(layout.preset, name))


def _first_scores(preset: Preset) -> dict[str, Score]:
    """Return the first score of each guide's task, of the guides of the table `scales`."""
    return {run.guide: preset.task(run.guide).scores[0] for run in table_runs(preset, "scales")}
