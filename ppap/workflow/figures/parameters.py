"""The figure `parameters`, of the main table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppap.config.runs import main_guides
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.layout import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Parameters(FigureKind):
    name = "parameters"

    def draw(self, layout: Layout, guide: str) -> Figure:
        from ppap.report.figures import parameters
        from ppap.workflow.table_rows import table

        return parameters.draw(table(layout, "main"), main_guides(layout.preset))
