"""The figure `samples_GUIDE`, of the first shard of the main table's runs with the figures' sampler."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from ppap.config.preset import Preset
from ppap.config.runs import drawn_runs, stored_as, titles
from ppap.report.figures import samples as sheet
from ppap.report.titles import sampler_title
from ppap.utils.settings import UNGUIDED
from ppap.workflow import stored_images, targets
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.figures.targets import shown_targets
from ppap.workflow.layout import Layout
from ppap.workflow.reads import drawn_keys, finished_keys, picture_target_keys, target_keys, title_keys


class Samples(FigureKind):
    of_guide = True

    def inputs(self, layout: Layout, guide: str) -> list[Path]:
        runs = [stored_as(layout.preset, run) for run in drawn_runs(layout.preset, guide)]
        shown = [place(run, 0) for run in runs for place in (layout.samples, layout.targets)]
        shown += [layout.finished(layout.samples(run, 0)) for run in runs]
        return [*shown, *layout.class_names(guide), *layout.target_file(guide)]

    def keys(self, preset: Preset, guide: str) -> list[str]:
        shown = [*finished_keys(preset), "sampling.shard_size"]
        shown += [*target_keys(preset, guide), *picture_target_keys(preset, guide)]
        names = [] if preset.task(guide).of_pictures else ["dataset.class_names"]
        runs = {stored_as(preset, run).guide for run in drawn_runs(preset, guide)}
        unguided = target_keys(preset, UNGUIDED) if UNGUIDED in runs else []
        called = title_keys(drawn_runs(preset, guide))
        return [*drawn_keys(preset, guide), *shown, *names, *unguided, *called]

    def draw(self, layout: Layout, guide: str) -> Figure:
        preset = layout.preset
        runs = drawn_runs(preset, guide)
        stored = {run.method: stored_images.samples(layout, stored_as(preset, run), range(1))[0] for run in runs}
        numbers = targets.numbers(layout, guide)[: len(stored[runs[0].method])]
        places = torch.tensor(sheet.columns(numbers.tolist()))
        images = {method: shard.take(places) for method, shard in stored.items()}
        names, title = titles(preset, runs), f"({sampler_title(preset.figures.sampler)}, guide {guide})"
        if preset.task(guide).of_pictures:
            shown = shown_targets(layout, guide, numbers[places])
            return sheet.draw(images, f"Samples by target {title}", names, shown=shown)
        known = targets.class_names(layout, guide)
        classes = [known[n] if known else str(n) for n in numbers[places].tolist()]
        return sheet.draw(images, f"Samples by target class {title}", names, classes)
