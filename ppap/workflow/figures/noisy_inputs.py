"""The figure `noisy_inputs`, of held-out images: real ones, or drawn ones where no truth of real ones is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import main_guides, runs_seeing_x_t, titles
from ppap.data.datasets import RealImages
from ppap.data.images import to_tensor
from ppap.diffusion.sampling import sample
from ppap.evaluation import noisy_inputs
from ppap.evaluation.noisy_inputs import EmpiricalPosterior, Scored
from ppap.report.figures import noisy_inputs as panels
from ppap.utils.device import device_of
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks, prompts, reads, stored_images
from ppap.workflow.experts import guide_of
from ppap.workflow.figures.kind import FigureKind, runs_of_all_guides
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Cost, Costs


class NoisyInputs(FigureKind):
    of_x_t = True

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        networks = [path for run in runs_of_all_guides(layout.preset) for path in layout.guide_and_experts(run)]
        known = [layout.knows_truth(name) for name in main_guides(layout.preset)]
        data = layout.dataset if any(known) else []
        return [*data, *(layout.process if all(known) else [layout.model(DIFFUSION)]), *networks]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        sampler, layout = preset.figures.sampler, Layout(preset)
        own = ["figures.images", *(f"samplers.{sampler}.{key}" for key in ("kind", "options", "steps"))]
        own += reads.SCHEDULE
        for name in main_guides(preset):
            own += [*reads.drawn_keys(preset, name), *reads.answer_keys(preset, name)]
            if layout.knows_truth(name):
                own += reads.data_keys(preset)
            else:
                own += [*reads.drawing_keys(preset, sampler), *reads.prompt_keys(preset, "sampling"), "sampling.seeds"]
        runs = runs_of_all_guides(preset)
        return [
            *own,
            *reads.title_keys(runs),
            *(k for run in runs for k in reads.guiding_keys(preset, run.guide, run.method)),
        ]

    def cost(self, costs: Costs, guide: str) -> Cost:
        """Count the answers of every guide; of drawn images, their drawing too. The posterior takes next to nothing."""
        preset, known = costs.preset, map(costs.layout.knows_truth, main_guides(costs.preset))
        steps = len(preset.schedule(preset.figures.sampler))
        answers = sum(costs.guide(run.guide).forward for run in runs_of_all_guides(preset))
        drawing = 0 if all(known) else steps * costs.diffusion.forward
        each = min(noisy_inputs.TIMESTEPS, steps) * answers + drawing
        return Cost(preset.figures.images * each, None)

    def draw(self, layout: Layout, guide: str) -> Figure:
        preset = layout.preset
        guides = main_guides(preset)
        drawn = None if all(map(layout.knows_truth, guides)) else draw_unguided(layout)
        scored = {name: list(scores(layout, name, drawn)) for name in guides}
        first = {name: preset.task_of(name).scores[0] for name in guides}
        shown = titles(preset, runs_of_all_guides(preset))
        return panels.draw(scored, first, preset.diffusion.timesteps, shown)


def scores(layout: Layout, guide: str, drawn: Tensor | None) -> Iterator[Scored]:
    """Score a guide's methods on held-out images, `figures.images` at most, and the posterior where classes are known.

    Where nothing is known of real images, the `drawn` ones (N, C, H, W) are taken: what is true of one is what the
    guide itself answers before noise is added.
    """
    preset, task = layout.preset, layout.preset.task_of(guide)
    posterior = None
    if layout.knows_truth(guide):
        held_out = stored_images.real(layout, "holdout").first(preset.figures.images)
        images, truths = _with_truths(layout, held_out, guide)
        if not preset.task(guide).of_pictures:
            known = _with_truths(layout, stored_images.real(layout, "train"), guide)
            posterior = EmpiricalPosterior(*known, preset.dataset.classes)
    else:
        assert drawn is not None
        network = networks.load_guide(layout, guide)
        with torch.inference_mode():
            parts = drawn.split(preset.sampling.judged_at_once)
            truths = torch.cat([task.target_of(network(part).float()) for part in parts])
        images = drawn
    yield from noisy_inputs.scores(
        images,
        truths,
        {run.method: guide_of(layout, run).at for run in runs_seeing_x_t(preset, guide)},
        task,
        networks.schedule(layout, preset.figures.sampler),
        preset.sampling.judged_at_once,
        posterior,
    )


def draw_unguided(layout: Layout) -> Tensor:
    """Draw images without guidance, from the sampling seeds' noise, rounded as images are: (N, C, H, W) in [-1, 1]."""
    preset, count = layout.preset, layout.preset.figures.images
    device, seed = device_of(preset.runtime), preset.sampling.seeds[0]
    seeds = [(seed, place) for place in range(count)]
    images = sample(
        prompts.told(layout, "sampling", networks.load_model(layout, preset.runtime), seeds),
        count,
        **preset.drawing(preset.figures.sampler),
        seeds=seeds,
        batch_size=preset.sampling.batch_size,
        name="noisy inputs",
    )
    return to_tensor(images).to(device)


def _with_truths(layout: Layout, data: RealImages, guide: str) -> tuple[Tensor, Tensor]:
    """Return images (N, C, H, W) in [-1, 1], and what is true of them for the guide's task (N, ...)."""
    device = device_of(layout.preset.runtime)
    truths = stored_images.truth_of(layout, data, guide)
    return to_tensor(data.images).to(device), truths.to(device)
