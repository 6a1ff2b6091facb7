"""The interface of figures: what is known of one without drawing it, and the gathering of what it shows."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure

from ppap.config.preset import Preset
from ppap.config.runs import Run, main_guides, runs_seeing_x_t
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import NOTHING, Cost, Costs
from ppap.workflow.reads import values_keys


class FigureKind(ABC):
    """A kind of figure, which a module of `ppap.report.figures` draws."""

    of_guide: ClassVar[bool] = False
    """There is one for each guide of the main table, NAME_GUIDE; otherwise one for all."""
    of_x_t: ClassVar[bool] = False
    """It shows what guides see in x_t as a picture, which latents are none of."""
    of_replicates: ClassVar[bool] = False
    """It shows all replicates, where a preset has some: a figure of the step `study_figure`, then."""
    table: ClassVar[str] = "main"
    """The table whose rows it shows; without that table there is no such figure."""

    @property
    def name(self) -> str:
        """The figure's name: that of its class, as modules are called."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def guides(self, preset: Preset) -> list[str]:
        """List the guides that have a figure of their own; one "" where there is one for all."""
        return main_guides(preset) if self.of_guide else [""]

    def title(self, guide: str) -> str:
        """Return the figure's name, which is its files' too."""
        return f"{self.name}_{guide}" if guide else self.name

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        """List the files of results that it reads: by default those of its table."""
        return layout.table_inputs(self.table)

    def keys(self, preset: Preset, guide: str) -> list[str]:
        """List the leaves of the preset that it reads, but for the free ones: by default those of its table."""
        return values_keys(preset, self.table)

    def cost(self, costs: Costs, guide: str) -> Cost:
        """Tell what it computes; most take seconds."""
        return NOTHING

    @abstractmethod
    def draw(self, layout: Layout, guide: str) -> Figure:
        """Gather what the figure shows, and draw it in its final size, in the style of `ppap.report.style`."""


def runs_of_all_guides(preset: Preset) -> list[Run]:
    """List the runs whose guides see x_t itself, of all guides of the main table."""
    return [run for guide in main_guides(preset) for run in runs_seeing_x_t(preset, guide)]
