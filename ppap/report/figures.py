"""The paper's figures, redrawn from this preset's own runs."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter
from numpy.typing import NDArray
from torch import Tensor

from ppap.data import datasets
from ppap.data.shards import clean_images
from ppap.data.shards import samples as samples_of
from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.trajectory import noise_state, trajectory
from ppap.evaluation.measured import scores_of
from ppap.graph import targets
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.preset.runs import (
    Run,
    drawn_runs,
    guided_runs,
    heard_runs,
    main_guides,
    stored_as,
    table_runs,
)
from ppap.report import style
from ppap.report.tables import method_title, sampler_title, table
from ppap.sampling.drawing import guidance_for, guide_at
from ppap.seeds import balanced_classes
from ppap.tasks.task import Score, Task

_TARGETS = 10  # columns of a figure of samples
_PANELS = 4  # of the figure of metrics, side by side
_LINE = 10  # letters of a class's name over such a column


def write_figure(layout: Layout, name: str) -> None:
    """Draw results/PRESET/figures/NAME.png: samples_GUIDE, metrics, confidence, gradients or scales."""
    preset = layout.preset
    kind, _, guide = name.partition("_")
    style.use()
    if kind == "samples":
        figure = samples(layout, guide)
    else:
        makers: dict[str, Callable[[Layout], Figure]] = {
            "metrics": metrics,
            "confidence": confidence,
            "gradients": gradients,
            "scales": scales,
        }
        with runtime.autocast(preset.runtime):
            figure = makers[kind](layout)
    style.write(figure, layout.figure(name))


def samples(layout: Layout, guide: str) -> Figure:
    """Guided samples: a row per method, a column per target, all from the same x_T; above them what is asked for."""
    preset = layout.preset
    runs = drawn_runs(preset, guide)
    shown = [samples_of(layout, stored_as(preset, run), range(1))[0] for run in runs]
    numbers = targets.numbers(layout, guide)[: len(shown[0])]
    chosen = _evenly(numbers.unique(), _TARGETS).tolist()
    columns = [int((numbers == number).nonzero()[0]) for number in chosen]
    wanted = targets.taker(layout, guide)(torch.tensor(chosen))
    above = 1 if preset.task(guide).of_pictures else 0
    rows = above + len(runs)
    figure, axes = plt.subplots(
        rows, len(columns), figsize=(style.COLUMN, 0.62 * rows), squeeze=False
    )
    for row, run, images in zip(axes[above:], runs, shown, strict=True):
        for axis, image in zip(row, images.take(torch.tensor(columns)), strict=True):
            style.show(axis, image)
        style.name_row(row[0], method_title(run.method))
    if above:
        _show_targets(axes[0], targets.task_of(preset, guide), wanted)
        names = []
    else:
        names = targets.class_names(layout, guide)
        for axis, target in zip(axes[0], chosen, strict=True):
            if names:
                axis.set_title(textwrap.fill(names[target], _LINE), fontsize=7)
            else:
                axis.set_title(target)
    sampler = sampler_title(preset.figures.sampler)
    title = f"Samples by target{'' if above else ' class'} ({sampler}, guide {guide})"
    top = 0.92 if above else 1.0
    figure.suptitle(title, y=top, va="bottom" if names else "top")  # names may take three lines
    figure.subplots_adjust(wspace=0.05, hspace=0.05)
    return figure


def _show_targets(row: NDArray[Any], task: Task, wanted: Tensor) -> None:
    """A row of targets as pictures."""
    for axis, target in zip(row, wanted, strict=True):
        task.draw(axis, target)
        style.bare(axis)
    style.name_row(row[0], "target")


def metrics(layout: Layout) -> Figure:
    """FID, Inception Score and the tasks' scores of every row of the main table."""
    preset = layout.preset
    frame = table(layout, "main")
    scores = {score.name: score for score in scores_of(preset, *table_runs(preset, "main"))}
    panels = {"fid": "FID (lower is better)", "is": "Inception Score"} | {
        name: _axis_title(score) for name, score in scores.items()
    }
    methods = [method_title(name) for name in dict.fromkeys(frame["method"])]
    samplers = list(dict.fromkeys(frame["sampler"]))
    across = min(len(panels), _PANELS)
    down = -(-len(panels) // across)  # rows of panels for each sampler
    figure, axes = plt.subplots(
        down * len(samplers),
        across,
        figsize=(style.COLUMN, 2.3 * down * len(samplers)),
        squeeze=False,
        sharey=True,
    )
    guides = main_guides(preset)
    for part, sampler in zip(np.split(axes, len(samplers)), samplers, strict=True):
        row = part.ravel()
        for axis in row[len(panels) :]:
            axis.remove()
        for axis, (metric, title) in zip(row, panels.items(), strict=False):
            factor = scores[metric].factor if metric in scores else 1
            for i, guide in enumerate(guides):
                mine = frame[(frame["sampler"] == sampler) & (frame["guide"] == guide)]
                y = np.array([methods.index(method_title(m)) for m in mine["method"]])
                axis.errorbar(
                    factor * mine[metric].astype(float), y + 0.16 * (i - (len(guides) - 1) / 2),
                    xerr=factor * mine[f"{metric}_std"].astype(float), fmt="os^Dv"[i % 5],
                    color=sns.color_palette(style.PALETTE, len(guides))[i], markersize=4, label=guide,
                )  # fmt: skip
            if metric == "fid" and _spans(frame.loc[frame["sampler"] == sampler, metric], 5):
                axis.set_xscale("log")
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.xaxis.set_minor_formatter(NullFormatter())
            else:
                _widen(axis, 0.02)
                axis.locator_params(axis="x", nbins=4)
            axis.set_yticks(range(len(methods)), methods)
            axis.set_ylim(len(methods) - 0.5, -0.5)
            axis.set_xlabel(title)
        row[1].set_title(sampler_title(sampler))
    handles, names = axes[0][0].get_legend_handles_labels()
    look: dict[str, Any] = {"title": "guide", "fontsize": 7, "title_fontsize": 7}
    if down * across > len(panels):
        figure.legend(handles, names, loc="lower right", **look)
    else:
        axes[0][-1].legend(handles, names, loc="best", **look)
    figure.tight_layout()
    return figure


def scales(layout: Layout) -> Figure:
    """What each method reaches at several guidance scales: the first score of a guide's task, and FID."""
    preset, frame = layout.preset, table(layout, "scales")
    guides = list(dict.fromkeys(frame["guide"]))
    figure, axes = plt.subplots(
        2, len(guides), figsize=(style.COLUMN, 4.2), squeeze=False, sharex="col"
    )
    frame["scale"] = [
        preset.scale(s, g) for s, g in zip(frame["sampler"], frame["guide"], strict=True)
    ]
    frame["Guidance"] = frame["method"].map(method_title)
    for column, guide in zip(axes.T, guides, strict=True):
        mine = frame[frame["guide"] == guide].sort_values("scale")
        score = scores_of(preset, Run("", guide, ""))[0]
        for axis, metric, factor in zip(
            column, (score.name, "fid"), (score.factor, 1), strict=True
        ):
            values = mine.assign(value=factor * mine[metric].astype(float))
            sns.lineplot(
                values, x="scale", y="value", hue="Guidance", style="Guidance", markers=True,
                dashes=False, ax=axis, palette=style.PALETTE, legend=axis is axes[0][0],
            )  # fmt: skip
            axis.axvline(preset.scale(preset.figures.sampler, guide), color="0.6", linewidth=0.8)
            axis.set(xscale="log", xlabel="guidance scale", ylabel=metric.upper())
            axis.set_xticks(sorted(set(mine["scale"])), minor=False)
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_locator(NullLocator())
        column[0].set(title=guide, ylabel=_axis_title(score))
        column[1].set_yscale("log")
        column[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        column[1].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        column[1].yaxis.set_minor_formatter(NullFormatter())
    handles, names = axes[0][0].get_legend_handles_labels()
    axes[0][0].get_legend().remove()
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.legend(handles, names, loc="lower center", ncol=len(names), fontsize=7)
    return figure


def confidence(layout: Layout) -> Figure:
    """What each guide believes of its target class along its own reverse process."""
    preset = layout.preset
    guides = main_guides(preset)
    figure, axes = plt.subplots(
        1, len(guides), figsize=(style.COLUMN, 2.6), squeeze=False, sharey=True
    )
    for axis, guide in zip(axes[0], guides, strict=True):
        rows = []
        for run in heard_runs(preset, guide):
            rows += _confidence_of(layout, run)
        frame = pd.DataFrame(rows)
        sns.lineplot(
            frame, x="timestep", y="belief", hue="guidance", style="guidance", errorbar=None, ax=axis,
            palette=style.PALETTE,
        )  # fmt: skip
        axis.invert_xaxis()
        axis.set(xlabel="timestep t (noise to image)", title=guide)
        axis.set_ylim(min(0, 1.1 * frame["belief"].min()), 1.02)
        axis.set_ylabel(targets.task_of(preset, guide).believed)
        if len({preset.task_name(name) for name in guides}) > 1:
            axis.yaxis.label.set_visible(True)
        axis.legend(fontsize=6, title=None)
    figure.tight_layout()
    return figure


def gradients(layout: Layout) -> Figure:
    """Guidance gradients at several timesteps, towards one class, for one noised image."""
    preset = layout.preset
    guide, chosen = main_guides(preset)[0], preset.figures
    runs, shown = guided_runs(preset, guide), preset.task(guide).of_pictures
    number = 0 if shown else chosen.target_class
    picture = targets.pictures(layout, guide)[:1] if shown else _image_of(layout, number)
    x0 = datasets.to_tensor(picture)
    denoiser = models.load_denoiser(layout, chosen.sampler)
    kept = np.array(denoiser.schedule.timesteps)
    steps = [int(np.abs(kept - t).argmin()) for t in chosen.timesteps]
    target = torch.tensor([number])
    device = runtime.device(preset.runtime)
    noisy = [_noised(x0, float(denoiser.schedule.alphas_cumprod[s]), s).to(device) for s in steps]
    figure, axes = plt.subplots(
        len(runs) + 1,
        len(steps),
        figsize=(0.8 * style.COLUMN, 0.95 * (len(runs) + 1)),
        squeeze=False,
    )
    for axis, x, step in zip(axes[0], noisy, steps, strict=True):
        style.show(axis, datasets.to_uint8(x)[0])
        axis.set_title(f"t = {kept[step]}")
    style.name_row(axes[0][0], "x_t")
    for row, run in zip(axes[1:], runs, strict=True):
        guidance = guidance_for(layout, run)(target.to(device))
        for axis, x, step in zip(row, noisy, steps, strict=True):
            _, gradient = guidance(denoiser, x, step)
            assert gradient is not None
            values = gradient[0].sum(dim=0).cpu().numpy()
            limit = np.abs(values).max() or 1.0
            axis.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
            style.bare(axis)
        style.name_row(row[0], method_title(run.method))
    names = [] if shown else targets.class_names(layout, guide)
    target_name = "its target" if shown else names[number] if names else number
    title = f"Gradient of log p({target_name} | x_t), guide {guide}; each map on its own scale"
    figure.suptitle(title, y=0.96)
    figure.subplots_adjust(wspace=0.05, hspace=0.05)
    return figure


def _image_of(layout: Layout, target: int) -> NDArray[np.uint8]:
    """A held-out real image of the class, (1, H, W, C); a drawn one where real images are not at hand."""
    if not layout.shows_real_image:
        return clean_images(layout, range(1)).take(torch.tensor([0]))
    data = datasets.load(layout, "holdout")
    index = int((data.classes == target).nonzero()[0])
    return data.images[index : index + 1]


def _confidence_of(layout: Layout, run: Run) -> list[dict[str, object]]:
    """Sample with the run's guidance; what the guide itself believes after every step."""
    preset = layout.preset
    count, seed = preset.figures.samples, preset.sampling.seeds[0]
    denoiser = models.load_denoiser(layout, run.sampler)
    device = runtime.device(preset.runtime)
    numbers = balanced_classes(seed, count, targets.choices(layout, run.guide)).to(device)
    guide, scale = guide_at(layout, run), preset.scale(run.sampler, run.guide)
    task, wanted = targets.task_of(preset, run.guide), targets.taker(layout, run.guide)(numbers)
    guidance = preset.guidance(run.method).build(guide, task.objective(wanted), scale)
    seeds = [(seed, i) for i in range(count)]
    start = noise_state(denoiser, seeds, preset.dataset.shape, device)
    sampler = preset.sampler(run.sampler).build(preset.samplers[run.sampler])
    states = trajectory("figure confidence", denoiser, sampler, guidance, start, seeds)
    rows: list[dict[str, object]] = []
    for left, x in itertools.chain([start], states):
        if not left:
            break
        t = denoiser.schedule.timesteps[left - 1]
        with torch.no_grad():
            belief = float(task.belief(guide(x, t).float(), wanted).mean())
        rows.append({"timestep": t, "belief": belief, "guidance": method_title(run.method)})
    return rows


def _axis_title(score: Score) -> str:
    """A score's name and unit, without its arrow."""
    return score.title[:-2] + (f" ({score.unit})" if score.unit else "")


def _noised(x0: Tensor, abar: float, seed: int) -> Tensor:
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    return add_noise(x0, eps, torch.tensor([abar]))


def _evenly(values: Tensor, count: int) -> Tensor:
    """At most `count` of the values, evenly spread over them."""
    places = torch.linspace(0, len(values) - 1, min(count, len(values)))
    return values[places.round().long()]


def _spans(values: pd.Series, factor: float) -> bool:
    """Whether the largest value is more than `factor` times the smallest."""
    numbers = values.astype(float)
    return bool(numbers.max() > factor * numbers.min())


def _widen(axis: Axes, share: float) -> None:
    """Have the x axis span at least this share of its values: smaller differences should not look large."""
    low, high = axis.get_xlim()
    missing = share * abs(high) - (high - low)
    if missing > 0:
        axis.set_xlim(low - missing / 2, high + missing / 2)
