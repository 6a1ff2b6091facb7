"""The figure `gradients_GUIDE`, of a preset's own samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ppap.config.preset import Preset
from ppap.config.runs import Run, runs_seeing_x_t, titles
from ppap.data.images import to_uint8
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.sampling import sampling_steps
from ppap.report.figures import gradients
from ppap.report.figures.gradients import SampleRow
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks, prompts, reads, targets
from ppap.workflow.experts import goals_of
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.figures.targets import shown_targets
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Cost, Costs


class Gradients(FigureKind):
    of_x_t = True
    of_guide = True

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        runs = runs_seeing_x_t(layout.preset, guide)
        guiding = [path for run in runs for path in layout.guidance(run)]
        return [layout.model(DIFFUSION), *guiding, *layout.class_names(guide)]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        own = [*reads.drawn_keys(preset, guide), "figures.timesteps", "sampling.seeds"]
        own += [*reads.drawing_keys(preset, preset.figures.sampler), *reads.prompt_keys(preset, "sampling")]
        if preset.task(guide).of_pictures:
            own += reads.picture_target_keys(preset, guide)
        else:
            own += [*reads.task_key(preset, guide), "dataset.class_names", "dataset.classes", "figures.target_class"]
        runs = runs_seeing_x_t(preset, guide)
        return [*own, *reads.title_keys(runs), *(key for run in runs for key in reads.run_keys(preset, *run))]

    def cost(self, costs: Costs, guide: str) -> Cost:
        """Count a sample of each method."""
        return costs.drawn(1, runs_seeing_x_t(costs.preset, guide))

    def draw(self, layout: Layout, guide: str) -> Figure:
        """Draw a row for each method whose guide sees x_t: one sample each, all from the same x_T, towards one target.

        An expert's map is of the one that owns the timestep.
        """
        preset, task = layout.preset, layout.preset.task_of(guide)
        shown = preset.task(guide).of_pictures
        number = 0 if shown else preset.figures.target_class
        kept = [
            nearest(networks.schedule(layout, preset.figures.sampler).timesteps, t) for t in preset.figures.timesteps
        ]
        model, chosen = networks.load_model(layout, preset.runtime), torch.tensor([number])
        runs = runs_seeing_x_t(preset, guide)
        rows = [_sample(layout, run, model, chosen, kept, preset.sampling.seeds[0]) for run in runs]
        target = shown_targets(layout, guide, chosen)[0] if shown else None
        names = [] if shown else targets.class_names(layout, guide)
        own = any(preset.methods[run.method].objective for run in runs)
        wanted = "the objective" if own else task.maximised.replace("{target}", names[number] if names else str(number))
        title = f"Gradient of {wanted} (guide {guide}); each map has its own scale"
        return gradients.draw(rows, kept, target, title, preset.dataset.image_size)


def nearest(kept: Sequence[int], t: int) -> int:
    """Return the kept timestep that is nearest to t."""
    return min(kept, key=lambda other: abs(other - t))


def _sample(
    layout: Layout, run: Run, model: DiffusionModel, number: torch.Tensor, kept: list[int], seed: int
) -> SampleRow:
    """Draw one sample towards the target with this number (1,), and keep the gradients at these timesteps."""
    preset = layout.preset
    maps: dict[int, NDArray[Any]] = {}
    for step in sampling_steps(
        prompts.told(layout, "sampling", model, [(seed, 0)]),
        1,
        goals_of(layout, run, number),
        guidance=preset.guidance(run.method),
        **preset.drawing(run.sampler),
        seed=seed,
        name="figure gradients",
    ):
        if step.timestep in kept:
            gradient = torch.zeros_like(step.x_t) if step.gradient is None else step.gradient
            maps[step.timestep] = gradient[0].sum(dim=0).cpu().numpy()
    (title,) = titles(preset, [run]).values()
    return SampleRow(title, [maps[t] for t in kept], to_uint8(step.x)[0])
