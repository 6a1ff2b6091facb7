"""The figure `metrics`, of the main table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppap.config.runs import main_guides, table_runs
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.layout import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Metrics(FigureKind):
    name = "metrics"

    def draw(self, layout: Layout, guide: str) -> Figure:
        from ppap.report.figures import metrics
        from ppap.workflow.table_rows import scores_of, table

        preset = layout.preset
        scores = scores_of(preset, *table_runs(preset, "main"))
        return metrics.draw(table(layout, "main"), main_guides(preset), scores)
