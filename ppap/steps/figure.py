"""The step `figure`: the paper's figures, redrawn from the preset's own runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from ppap.errors import ConfigError
from ppap.graph.layout import Layout
from ppap.graph.step import Report, Step
from ppap.preset import DIFFUSION, Preset, reads
from ppap.preset.runs import drawn_runs, guided_runs, heard_runs, main_guides, stored_as
from ppap.steps.table import table_inputs

if TYPE_CHECKING:
    from ppap.plan.costs import Cost, Costs


class Kind(NamedTuple):
    """What a figure reads: files of results, and keys; of the kind `samples` there is one for each guide."""

    inputs: Callable[[Layout, str], list[Path]]
    keys: Callable[[Preset, str], list[str]]
    cost: Callable[[Costs], Cost] = lambda costs: costs.nothing()
    table: str = "main"
    """The table whose rows it shows; without that table there is no such figure."""


@dataclass(frozen=True)
class Figure(Step):
    """Of one figure."""

    message = "Drawing figure {wildcards.figure}"
    resources = "figure"
    report = Report(".png", "figure.rst", "Figures")

    figure: str

    @property
    def kind(self) -> str:
        return self.figure.partition("_")[0]

    @property
    def guide(self) -> str:
        return self.figure.partition("_")[2]

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, figure_names(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.figure(self.figure)]

    def inputs(self, layout: Layout) -> list[Path]:
        return list(dict.fromkeys(KINDS[self.kind].inputs(layout, self.guide)))

    def labels(self) -> dict[str, str]:
        return {"guide": self.guide} if self.guide else {"figure": self.kind}

    def subcategory(self) -> str:
        return "Samples" if self.guide else "Analysis"

    def keys(self, preset: Preset) -> list[str]:
        return KINDS[self.kind].keys(preset, self.guide)

    def cost(self, costs: Costs) -> Cost:
        return KINDS[self.kind].cost(costs)

    def run(self, layout: Layout) -> None:
        """ConfigError if the preset has no such figure."""
        from ppap.report.figures import write_figure

        known = figure_names(layout.preset)
        if self.figure not in known:
            raise ConfigError(f"no figure '{self.figure}' (there are {', '.join(known)})")
        write_figure(layout, self.figure)


def figure_names(preset: Preset) -> list[str]:
    """The figures of the preset."""
    samples = (f"samples_{guide}" for guide in main_guides(preset))
    others = (
        kind for kind, spec in KINDS.items() if kind != "samples" and spec.table in preset.tables
    )
    return [*samples, *others]


def _samples(layout: Layout, guide: str) -> list[Path]:
    runs = [stored_as(layout.preset, run) for run in drawn_runs(layout.preset, guide)]
    shown = [place(run, 0) for run in runs for place in (layout.samples, layout.targets)]
    shown += [layout.finished(layout.samples(run, 0)) for run in runs]
    return [*shown, *layout.class_names(guide), *layout.numbered(guide)]


def _metrics(layout: Layout, _: str) -> list[Path]:
    return table_inputs(layout, "main")


def _scales(layout: Layout, _: str) -> list[Path]:
    return table_inputs(layout, "scales")


def _confidence(layout: Layout, _: str) -> list[Path]:
    runs = [run for guide in main_guides(layout.preset) for run in heard_runs(layout.preset, guide)]
    return [layout.model(DIFFUSION), *(path for run in runs for path in layout.guiding(run))]


def _gradients(layout: Layout, _: str) -> list[Path]:
    guide = main_guides(layout.preset)[0]
    guiding = [p for run in guided_runs(layout.preset, guide) for p in layout.guiding(run)]
    picture = layout.numbered(guide) or layout.shown_image
    return [layout.model(DIFFUSION), *guiding, *picture, *layout.class_names(guide)]


KINDS = {
    "samples": Kind(_samples, reads.samples_figure_keys),
    "metrics": Kind(_metrics, reads.metrics_figure_keys),
    "confidence": Kind(_confidence, reads.confidence_figure_keys, lambda costs: costs.confidence()),
    "gradients": Kind(_gradients, reads.gradients_figure_keys),
    "scales": Kind(_scales, reads.scales_figure_keys, table="scales"),
}
