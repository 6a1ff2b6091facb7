"""The figure `gradients_GUIDE`: what each method's guide asks for along the reverse process, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from ppap.config import Preset
from ppap.config.runs import Run, heard_runs
from ppap.report.figures.kind import FigureKind
from ppap.utils.settings import DIFFUSION
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import task_key
from ppap.workflow.reads.sampling import drawing_keys, run_keys, shown_keys
from ppap.workflow.reads.tables import drawn_keys

from ppap.report import pictures, style
from ppap.report.pictures import Cell
from ppap.report.titles import method_title


class SampleRow(NamedTuple):
    """One sample of a method: the guidance gradients (H, W) at some timesteps, and the image, uint8 (H, W, C)."""

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


def draw(
    rows: Sequence[SampleRow], timesteps: Sequence[int], target: Cell | None, title: str, size: int
) -> Figure:
    """Draw a row for each method: its target, if there is a picture of one, its maps at these timesteps, and its sample.

    Images have `size` pixels a side.
    """
    before, shown = ([], []) if target is None else ([target], ["target"])
    cells = [
        pictures.Row(
            method_title(row.method),
            [
                *before,
                *(partial(_show_map, values=values) for values in row.maps),
                partial(style.show, image=row.image),
            ],
        )
        for row in rows
    ]
    headings = [*shown, *(f"t = {t}" for t in timesteps), "sample"]
    return pictures.sheet(cells, headings, title, size)


def _show_map(axis: Axes, values: NDArray[Any]) -> None:
    """Show numbers (H, W): violet where pixels are to grow, orange where they are to shrink."""
    limit = float(abs(values).max()) or 1.0
    axis.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
