"""The figure `confidence`, of a preset's own samples."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from ppap.config.preset import Preset
from ppap.config.runs import Run, main_guides, runs_seeing_x_t, titles
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.sampling import sampling_steps
from ppap.report.figures import confidence
from ppap.report.figures.confidence import Believed, GuideRow
from ppap.utils.seeds import balanced_classes
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks, prompts, reads, targets
from ppap.workflow.experts import goals_of
from ppap.workflow.figures.kind import FigureKind, runs_of_all_guides
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Cost, Costs

_BAND = (0.1, 0.9)  # quantiles


class Confidence(FigureKind):
    of_x_t = True

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        guiding = [path for run in runs_of_all_guides(layout.preset) for path in layout.guidance(run)]
        return [layout.model(DIFFUSION), *guiding]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        own = ["figures.samples", "sampling.seeds"]
        for name in main_guides(preset):
            numbers = [k for k in reads.target_keys(preset, name) if k != "sampling.samples"]
            own += [*numbers, *reads.picture_target_keys(preset, name), *reads.drawn_keys(preset, name)]
        own += [*reads.drawing_keys(preset, preset.figures.sampler), *reads.prompt_keys(preset, "sampling")]
        runs = runs_of_all_guides(preset)
        return [*own, *reads.title_keys(runs), *(key for run in runs for key in reads.run_keys(preset, *run))]

    def cost(self, costs: Costs, guide: str) -> Cost:
        """Count the samples that it draws of its own."""
        return costs.drawn(costs.preset.figures.samples, runs_of_all_guides(costs.preset))

    def draw(self, layout: Layout, guide: str) -> Figure:
        preset, model = layout.preset, networks.load_model(layout, layout.preset.runtime)
        shown = titles(preset, runs_of_all_guides(preset))
        rows = []
        for name in main_guides(preset):
            believed = {run.method: _believed(layout, run, model) for run in runs_seeing_x_t(preset, name)}
            rows.append(GuideRow(name, preset.task_of(name).believed, believed))
        ranges = {name: preset.ranges(name) for name in shown if preset.guidance(name).experts}
        return confidence.draw(rows, shown, ranges, preset.diffusion.timesteps)


def _believed(layout: Layout, run: Run, model: DiffusionModel) -> Believed:
    """Draw samples of a run anew, and ask its guide before every step what it believes of them."""
    preset = layout.preset
    count, seed = preset.figures.samples, preset.sampling.seeds[0]
    numbers = balanced_classes(seed, count, targets.choices(layout, run.guide))
    (goal,) = goals_of(layout, run, numbers)
    wanted = goal.targets(count, model.shape).to(model.device)
    curve = Believed([], [], [], [])
    for step in sampling_steps(
        prompts.told(layout, "sampling", model, [(seed, place) for place in range(count)]),
        count,
        [goal],
        guidance=preset.guidance(run.method),
        **preset.drawing(run.sampler),
        seed=seed,
        name="figure confidence",
    ):
        with torch.no_grad():
            answers = goal.at(step.x_t, step.log_snr).float()
            belief = goal.task.belief(answers, wanted)
        low, high = torch.quantile(belief, belief.new_tensor(_BAND)).tolist()
        curve.timesteps.append(step.timestep)
        curve.mean.append(float(belief.mean()))
        curve.low.append(low)
        curve.high.append(high)
    return curve
