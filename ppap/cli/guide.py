"""`ppap guide`: from experts, or an off-the-shelf guide, to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppap.cli.arguments import PresetName, app, names_in, open_preset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ppap.config.preset import Preset
    from ppap.config.runs import Run
    from ppap.guides.goal import Goal
    from ppap.report.sheet import Asked
    from ppap.workflow.layout import Layout


@app.command()
def guide(
    preset: PresetName,
    guides: Annotated[
        list[str],
        typer.Option(
            "--guide", help="a key of `guides`; several times: all at once", autocompletion=names_in("guides")
        ),
    ],
    targets: Annotated[
        list[str],
        typer.Option(
            "--target",
            help="of each guide in turn: a class by name or number; a depth or label map (.npy, .png), or a "
            "picture, which the guide itself looks at",
        ),
    ],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="images")] = 8,
    scales: Annotated[
        list[float] | None, typer.Option("--scale", min=0, help="of each guide in turn; the preset's if left out")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="a key of `methods`; experts without labels if left out", autocompletion=names_in("methods")),
    ] = "",
    sampler: Annotated[
        str, typer.Option(help="a key of `samplers`; the figures' if left out", autocompletion=names_in("samplers"))
    ] = "",
    prompt: Annotated[str | None, typer.Option(help="in place of the preset's prompts")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    out: Annotated[Path, typer.Option(help="the sheet's file")] = Path("sheet.png"),
) -> None:
    """Draw images that are guided to a target, and write them as a contact sheet, the target beside them.

    Needs the preset's networks and experts: `snakemake experts` makes them.
    """
    from dataclasses import replace

    from ppap.config.guidance_scales import guidance_scale
    from ppap.config.runs import Run, known
    from ppap.report.sheet import check_format, write_sheet
    from ppap.utils import files
    from ppap.utils.errors import ConfigError

    layout = open_preset(preset)
    if prompt is not None:
        layout = replace(layout, preset=layout.preset.prompted(prompt))
    chosen = layout.preset
    sampler, method = sampler or chosen.figures.sampler, method or default_method(chosen)
    named = [("samplers", sampler), ("methods", method), *(("guides", name) for name in guides)]
    for section, name in named:
        known(chosen, section, name)
    if not _guides(chosen, method):
        raise ConfigError(f"methods.{method}: does not guide")
    if len(targets) != len(guides):
        raise ConfigError(f"--target: {len(targets)} targets for {len(guides)} guides; one for each")
    if scales and len(scales) != len(guides):
        raise ConfigError(f"--scale: {len(scales)} scales for {len(guides)} guides; one for each")
    check_format(out)
    files.check_writable(out)
    given_scales = scales or [guidance_scale(chosen, sampler, name, method) for name in guides]
    wanted = [
        _wanted(layout, Run(sampler, name, method), target, scale)
        for name, target, scale in zip(guides, targets, given_scales, strict=True)
    ]
    images = _drawn(layout, [goal for goal, _ in wanted], count, sampler, method, seed)
    write_sheet(out, [asked for _, asked in wanted], images)
    print(out)


def default_method(preset: Preset) -> str:
    """Return the method that guides where the user names none: experts without labels before others and plain guides."""
    from ppap.utils.errors import ConfigError

    usable = [name for name in preset.methods if _guides(preset, name)]
    if not usable:
        raise ConfigError(f"{preset.name}: has no method that guides")
    return max(usable, key=lambda name: (preset.methods[name].supervision == "teacher", preset.guidance(name).experts))


def _guides(preset: Preset, method: str) -> bool:
    kind = preset.guidance(method)
    return kind.guided and kind.drawn


def _wanted(layout: Layout, run: Run, text: str, scale: float) -> tuple[Goal, Asked]:
    """Return the goal that a user asks for in words, its networks loaded, and what the sheet says of it."""
    from ppap.guides.goal import Goal
    from ppap.report.sheet import Asked
    from ppap.workflow.experts import guide_of
    from ppap.workflow.networks import load_guide
    from ppap.workflow.targets import class_names, named

    target, picture = named(layout, text, run.guide, load_guide(layout, run.guide))
    goal = Goal(guide_of(layout, run), target, scale, layout.preset.objective(run.method))
    names = [] if goal.task.of_pictures else class_names(layout, run.guide)
    title = f"{run.guide}: {names[int(target)] if names else Path(text).name}"
    return goal, Asked(title, goal.task, target[0], None if picture is None else picture[0].numpy())


def _drawn(layout: Layout, goals: list[Goal], count: int, sampler: str, method: str, seed: int) -> NDArray[np.uint8]:
    """Draw images that are guided to all goals at once, finished ones of a cascade: uint8 (count, H, W, C)."""
    from ppap.diffusion.sampling import sample, upsample
    from ppap.utils.mixed_precision import autocast
    from ppap.workflow.networks import load_model, load_second_stage
    from ppap.workflow.prompts import told

    preset, second = layout.preset, layout.preset.diffusion.upsampling
    seeds = [(seed, place) for place in range(count)]
    with autocast(preset.runtime):
        images = sample(
            told(layout, "sampling", load_model(layout, preset.runtime), seeds),
            count,
            goals,
            guidance=preset.guidance(method),
            **preset.drawing(sampler),
            seed=seed,
            batch_size=preset.sampling.batch_size,
            name="guided images",
        )
        if second is None:
            return images
        how = second.drawing(preset.module_folders)
        return upsample(load_second_stage(layout), images, seeds, **how, batch_size=second.batch_size)
