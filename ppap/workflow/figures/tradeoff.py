"""The figure `tradeoff`, of the table `scales`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppap.config.preset import Preset
from ppap.config.runs import table_runs
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.reads.sampling import scale_keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tradeoff(FigureKind):
    name = "tradeoff"
    table = "scales"

    def keys(self, preset: Preset, guide: str) -> list[str]:
        scales = [key for run in table_runs(preset, "scales") for key in scale_keys(preset, run.sampler, run.guide)]
        return [*super().keys(preset, guide), *scales]

    def draw(self, layout: Layout, guide: str) -> Figure:
        from ppap.report.figures import tradeoff
        from ppap.workflow.table_rows import first_score, scaled_table

        guides = dict.fromkeys(run.guide for run in table_runs(layout.preset, "scales"))
        scores = {name: first_score(layout.preset, name) for name in guides}
        return tradeoff.draw(scaled_table(layout), scores)
