"""The figure `samples_GUIDE`: guided samples, a row for each method, a column for each target."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial

from ppap.config import Preset
from ppap.config.runs import drawn_runs, stored_as
from ppap.report.figures.kind import FigureKind
from ppap.utils.settings import UNGUIDED
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import finished_keys
from ppap.workflow.reads.sampling import shown_keys, target_keys
from ppap.workflow.reads.tables import drawn_keys

from ppap.report import pictures, style
from ppap.report.titles import method_title

_COLUMNS = 10  # at most; several of each target where these are few
_LINE = 10  # letters of a class's name over a column


def draw(
    images: Mapping[str, NDArray[np.uint8]],
    title: str,
    classes: Sequence[str] = (),
    shown: Sequence[pictures.Cell] = (),
) -> Figure:
    """Draw images (N, H, W, C) by method, a row each, below what was asked of the N: names of `classes`, or `shown`.

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        runs = [stored_as(layout.preset, run) for run in drawn_runs(layout.preset, guide)]
        shown = [place(run, 0) for run in runs for place in (layout.samples, layout.targets)]
        shown += [layout.finished(layout.samples(run, 0)) for run in runs]
        return [*shown, *layout.class_names(guide), *layout.numbered(guide)]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        shown = [*finished_keys(preset), "sampling.shard_size"]
        shown += [*target_keys(preset, guide), *shown_keys(preset, guide)]
        names = [] if preset.task(guide).of_pictures else ["dataset.class_names"]
        runs = {stored_as(preset, run).guide for run in drawn_runs(preset, guide)}
        unguided = target_keys(preset, UNGUIDED) if UNGUIDED in runs else []
        return [*drawn_keys(preset, guide), *shown, *names, *unguided]

    def draw(self, layout: Layout, guide: str) -> Figure:
        """All columns start from the same x_T in all rows; above them what is asked for."""
        import torch

        from ppap.data.shards import samples
        from ppap.report import pictures, style
        from ppap.report.titles import method_title, sampler_title
        from ppap.workflow import targets

        preset = layout.preset
        runs = drawn_runs(preset, guide)
        shown = [samples(layout, stored_as(preset, run), range(1))[0] for run in runs]
        numbers = targets.numbers(layout, guide)[: len(shown[0])]
        places = torch.tensor(columns(numbers.tolist()))
        rows = [
            pictures.Row(
                method_title(run.method),
                [partial(style.show, image=image) for image in images.take(places)],
            )
            for run, images in zip(runs, shown, strict=True)
        ]
        about = f"({sampler_title(preset.figures.sampler)}, guide {guide})"
        size = preset.finished_shape[-1]
        if not preset.task(guide).of_pictures:
            headings = _headings(layout, guide, numbers[places].tolist())
            return pictures.sheet(rows, headings, f"Samples by target class {about}", size)
        task, wanted = targets.task_of(preset, guide), targets.taker(layout, guide)(numbers[places])
        asked = pictures.Row("target", [partial(task.draw, target=target) for target in wanted])
        return pictures.sheet([asked, *rows], [], f"Samples by target {about}", size)


def columns(numbers: list[int]) -> list[int]:
    """Choose the places of samples to show, of these targets: 10 at most, evenly spread, each as often as fits."""
    known = sorted(set(numbers))
    count = min(_COLUMNS, len(known))
    chosen = [known[round(i * (len(known) - 1) / max(1, count - 1))] for i in range(count)]
    every = {number: [i for i, n in enumerate(numbers) if n == number] for number in chosen}
    return [place for places in every.values() for place in places[: _COLUMNS // count]]
