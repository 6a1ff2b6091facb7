"""The step `targets`: what held-out pictures, or those of a folder, show: depth, labels; samples are guided to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.config.runs import shown_guides
from ppap.workflow.layout import Layout
from ppap.workflow.reads.sampling import targets_file_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Targets(Step):
    """Of one guide whose task is about more than classes."""

    message = "Reading the targets of {wildcards.guide}"
    resources = "label"
    priority = 30

    guide: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, shown_guides(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.shown(self.guide)]

    def inputs(self, layout: Layout) -> list[Path]:
        if layout.preset.guides[self.guide].targets.folder is None:
            return layout.dataset
        return [layout.model(self.guide)]

    def keys(self, preset: Preset) -> list[str]:
        return targets_file_keys(preset, self.guide)

    def cost(self, costs: Costs) -> Cost:
        return costs.nothing()

    def run(self, layout: Layout) -> None:
        """ConfigError if the guide's targets are classes."""
        from ppap.workflow.target_files import write_targets

        write_targets(layout, self.guide)
