"""The figure `scales`, of the table of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppap.config.preset import Preset
from ppap.config.runs import table_runs
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.reads.sampling import scale_keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Scales(FigureKind):
    name = "scales"
    table = "scales"

    def keys(self, preset: Preset, guide: str) -> list[str]:
        own = [*super().keys(preset, guide), "figures.sampler"]
        for run in table_runs(preset, "scales"):
            own += scale_keys(preset, run.sampler, run.guide)
            own += scale_keys(preset, preset.figures.sampler, run.guide)
        return own

    def draw(self, layout: Layout, guide: str) -> Figure:
        from ppap.report.figures import scales
        from ppap.workflow.table_rows import first_score, scaled_table

        preset = layout.preset
        guides = dict.fromkeys(run.guide for run in table_runs(preset, "scales"))
        scores = {name: first_score(preset, name) for name in guides}
        marked = {name: preset.guidance_scale(preset.figures.sampler, name) for name in guides}
        return scales.draw(scaled_table(layout), scores, marked)
