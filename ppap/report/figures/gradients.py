"""The figure `gradients_GUIDE`: what each method's guide asks for along the reverse process, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppap.config import Preset
from ppap.config.runs import Run, heard_runs
from ppap.report.figures.kind import FigureKind
from ppap.utils.settings import DIFFUSION
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import task_key
from ppap.workflow.reads.sampling import drawing_keys, run_keys, shown_keys
from ppap.workflow.reads.tables import drawn_keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ppap.diffusion.denoiser import Denoiser
    from ppap.report.pictures import Cell
    from ppap.workflow.plan.costs import Cost, Costs


class Gradients(FigureKind):
    name = "gradients"
    of_guide = True

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        runs = heard_runs(layout.preset, guide)
        guiding = [path for run in runs for path in layout.guiding(run)]
        return [layout.model(DIFFUSION), *guiding, *layout.class_names(guide)]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        own = [*drawn_keys(preset, guide), "figures.timesteps", "sampling.seeds"]
        own += drawing_keys(preset, preset.figures.sampler)
        if preset.task(guide).of_pictures:
            own += shown_keys(preset, guide)
        else:
            own += [*task_key(preset, guide), "dataset.class_names", "figures.target_class"]
            own += ["dataset.classes"]
        runs = heard_runs(preset, guide)
        return own + [key for run in runs for key in run_keys(preset, *run)]

    def cost(self, costs: Costs, guide: str) -> Cost:
        """A sample of each method."""
        return costs.drawn(1, heard_runs(costs.preset, guide))

    def draw(self, layout: Layout, guide: str) -> Figure:
        """A row for each method whose guide sees x_t: one sample each, all from the same x_T, towards one target.

        An expert's map is of the one that owns the timestep.
        """
        import torch

        from ppap.report import pictures
        from ppap.report.titles import method_title
        from ppap.workflow import networks as models
        from ppap.workflow import targets

        preset, task = layout.preset, targets.task_of(layout.preset, guide)
        shown = preset.task(guide).of_pictures
        number = 0 if shown else preset.figures.target_class
        denoiser = models.load_denoiser(layout, preset.figures.sampler)
        kept = [nearest(denoiser.schedule.timesteps, t) for t in preset.figures.timesteps]
        rows, asked = [], targets.taker(layout, guide)(torch.tensor([number]))[0]
        for run in heard_runs(preset, guide):
            cells = _cells(layout, run, denoiser, number, kept)
            before = [partial(task.draw, target=asked)] if shown else []
            rows.append(pictures.Row(method_title(run.method), [*before, *cells]))
        names = [] if shown else targets.class_names(layout, guide)
        wanted = task.maximised.replace("{target}", names[number] if names else str(number))
        headings = [*(["target"] if shown else []), *(f"t = {t}" for t in kept), "sample"]
        title = f"Gradient of {wanted} (guide {guide}); each map has its own scale"
        return pictures.sheet(rows, headings, title, preset.dataset.image_size)


def nearest(kept: Sequence[int], t: int) -> int:
    """The kept timestep that is nearest to t."""
    return min(kept, key=lambda other: abs(other - t))


def _cells(
    layout: Layout, run: Run, denoiser: Denoiser, number: int, kept: list[int]
) -> list[Cell]:
    """The maps of one sample at these timesteps, and the finished sample."""
    import torch

    from ppap.data import datasets
    from ppap.report import style
    from ppap.workflow.reverse_process import ReverseProcess

    seed = layout.preset.sampling.seeds[0]
    process = ReverseProcess.of(layout, run, denoiser, torch.tensor([number]), seed)
    maps: dict[int, Cell] = {}
    for state in process.states("figure gradients"):
        if state.steps_left and (t := process.timestep(state)) in kept:
            maps[t] = partial(_show_map, values=process.gradient(state)[0].sum(dim=0).cpu().numpy())
    image = datasets.to_uint8(state.x)[0]
    return [*(maps[t] for t in kept), partial(style.show, image=image)]


def _show_map(axis: Axes, values: NDArray[Any]) -> None:
    """Numbers (H, W): violet where pixels are to grow, orange where they are to shrink."""
    limit = float(abs(values).max()) or 1.0
    axis.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
