"""The step `figure`: the paper's figures, redrawn from the preset's own runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config.preset import Preset
from ppap.utils.mixed_precision import autocast
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.figures.kind import FigureKind


@dataclass(frozen=True)
class Figure(Step):
    """Draw one figure, as PNG and as PDF."""

    message = "Drawing figure {wildcards.figure}"
    once = True
    report = ".png"

    figure: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        from ppap.workflow.figures import figure_names

        return map(cls, figure_names(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.figure(self.figure), layout.figure_in_print(self.figure)]

    def inputs(self, layout: Layout) -> list[Path]:
        kind, guide = self.kind(layout.preset)
        return list(dict.fromkeys(kind.inputs(layout, guide)))

    def keys(self, preset: Preset) -> list[str]:
        kind, guide = self.kind(preset)
        return kind.keys(preset, guide)

    def subcategory(self) -> str:
        return "Samples" if self.figure.startswith("samples_") else "Analysis"

    def run(self, layout: Layout) -> None:
        """Draw the figure, and write it; ConfigError if the preset has no such figure."""
        from ppap.report import style

        kind, guide = self.kind(layout.preset)
        style.use()
        with autocast(layout.preset.runtime):
            drawn = kind.draw(layout, guide)
        style.write(drawn, self.outputs(layout))

    def kind(self, preset: Preset) -> tuple[FigureKind, str]:
        from ppap.workflow.figures import figure_of  # here, so that no other job waits for matplotlib

        return figure_of(preset, self.figure)
