"""The figure `calibration`, of the classifiers of the table of that name, over all replicates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ppap.config.preset import Preset
from ppap.config.runs import Run, knows_truth, table_runs, titles
from ppap.data.images import to_tensor
from ppap.evaluation import noisy_inputs
from ppap.evaluation.noisy_inputs import Scored
from ppap.report.figures import calibration as panels
from ppap.utils.device import device_of
from ppap.utils.settings import CLASSIFICATION
from ppap.workflow import networks, reads, stored_images
from ppap.workflow.experts import guide_of
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Cost, Costs


class Calibration(FigureKind):
    of_x_t = True
    of_replicates = True
    table = "calibration"

    def guides(self, preset: Preset) -> list[str]:
        return super().guides(preset) if _runs(preset) else []

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        runs = _runs(layout.preset)
        return [path for own in layout.runs for run in runs for path in (*own.dataset, *own.guide_and_experts(run))]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        runs, sampler = _runs(preset), preset.figures.sampler
        own = [
            "figures.images",
            "figures.sampler",
            *(f"samplers.{sampler}.{key}" for key in ("kind", "options", "steps")),
        ]
        own += [*reads.rows_keys(preset, self.table), *reads.SCHEDULE, *reads.data_keys(preset)]
        own += reads.replicate_keys(preset)
        guiding = (key for run in runs for key in reads.guiding_keys(preset, run.guide, run.method))
        return [*own, *reads.title_keys(runs), *guiding]

    def cost(self, costs: Costs, guide: str) -> Cost:
        answers = sum(costs.guide(run.guide).forward for run in _runs(costs.preset))
        return Cost(len(costs.layout.runs) * costs.preset.figures.images * noisy_inputs.TIMESTEPS * answers, None)

    def draw(self, layout: Layout, guide: str) -> Figure:
        preset = layout.preset
        errors = {name: [row for own in layout.runs for row in _errors(own, name)] for name in _guides(preset)}
        frames = {name: pd.DataFrame(rows) for name, rows in errors.items()}
        return panels.draw(frames, preset.diffusion.timesteps, titles(preset, _runs(preset)))


def _runs(preset: Preset) -> list[Run]:
    """List the rows whose guides see x_t, and classify held-out images whose classes are known."""
    rows = table_runs(preset, Calibration.table)
    shown = (run for run in rows if preset.guidance(run.method).sees_x_t and preset.computed(run.method))
    return [r for r in shown if preset.task_name(r.guide) == CLASSIFICATION and knows_truth(preset, r.guide)]


def _guides(preset: Preset) -> list[str]:
    return list(dict.fromkeys(run.guide for run in _runs(preset)))


def _errors(layout: Layout, guide: str) -> Iterator[Scored]:
    """Yield the calibration errors of a guide's methods on held-out images, `figures.images` at most."""
    preset, device = layout.preset, device_of(layout.preset.runtime)
    held_out = stored_images.real(layout, "holdout").first(preset.figures.images)
    return noisy_inputs.calibration(
        to_tensor(held_out.images).to(device),
        stored_images.truth_of(layout, held_out, guide).to(device),
        {run.method: guide_of(layout, run).at for run in _runs(preset) if run.guide == guide},
        networks.schedule(layout, preset.figures.sampler),
        preset.sampling.judged_at_once,
    )
