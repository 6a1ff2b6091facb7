"""The step `study_figure`: a figure over all replicates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.workflow.layout import Layout
from ppap.workflow.steps.figure import Figure


@dataclass(frozen=True)
class StudyFigure(Figure):
    """Draw one figure of all replicates, in place of one of the preset's own run."""

    message = "Drawing figure {wildcards.figure} over all replicates"
    resources = "figure"
    report = ""

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        from ppap.workflow.figures import figure_names

        return map(cls, figure_names(layout.preset, of_replicates=True))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.root / "study" / f"{self.figure}.{suffix}" for suffix in ("png", "pdf")]
