"""`ppap guide`: from experts, or an off-the-shelf guide, to pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppap.cli import completion
from ppap.cli.arguments import PresetName, open_preset
from ppap.config.guidance_scales import guidance_scale
from ppap.config.preset import Preset
from ppap.config.runs import Run, known
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import autocast
from ppap.workflow.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ppap.guides.goal import Goal
    from ppap.report.sheet import Asked


def guide(
    preset: PresetName,
    guides: Annotated[
        list[str],
        typer.Option(
            "--guide", help="a key of `guides`; several times: all at once", autocompletion=completion.guide_names
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
        typer.Option(
            help="a key of `methods`; experts without labels if left out", autocompletion=completion.method_names
        ),
    ] = "",
    sampler: Annotated[
        str, typer.Option(help="a key of `samplers`; the figures' if left out", autocompletion=completion.sampler_names)
    ] = "",
    prompt: Annotated[str | None, typer.Option(help="for GLIDE, in place of the preset's prompt")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    out: Annotated[Path, typer.Option(help="the sheet's file")] = Path("sheet.png"),
) -> None:
    """Draw images that are guided to a target, and write them as a contact sheet, the target beside them.

    Needs the preset's networks and experts: `snakemake experts` makes them.
    """
    from ppap.report.sheet import check_format, write_sheet
    from ppap.utils import files

    layout = open_preset(preset)
    if prompt is not None:
        layout = replace(layout, preset=layout.preset.prompted(prompt))
    chosen = layout.preset
    for name in guides:
        known(chosen, "guides", name)
    check_format(out)
    files.check_writable(out)
    sampler, method = sampler or chosen.figures.sampler, method or default_method(chosen)
    known(chosen, "samplers", sampler)
    known(chosen, "methods", method)
    if not _guides(chosen, method):
        raise ConfigError(f"methods.{method}: does not guide")
    paired = _paired(guides, targets, scales or [])
    wanted = [_wanted(layout, Run(sampler, name, method), text, scale) for name, text, scale in paired]
    images = _drawn(layout, [goal for goal, _ in wanted], count, sampler, method, seed)
    write_sheet(out, [asked for _, asked in wanted], images)
    print(out)


def default_method(preset: Preset) -> str:
    """Return the method that guides where the user names none: experts without labels before others and plain guides."""

    def rank(name: str) -> int:
        taught = preset.methods[name].supervision == "teacher"
        return 0 if taught else 1 if preset.guidance(name).experts else 2

    usable = [name for name in preset.methods if _guides(preset, name)]
    if not usable:
        raise ConfigError(f"{preset.name}: has no method that guides")
    return min(usable, key=rank)


def _guides(preset: Preset, method: str) -> bool:
    kind = preset.guidance(method)
    return kind.guided and kind.drawn


def _wanted(layout: Layout, run: Run, text: str, scale: float | None) -> tuple[Goal, Asked]:
    """Return the goal that a user asks for in words, its networks loaded, and what the sheet says of it."""
    from ppap.guides.goal import Goal
    from ppap.report.sheet import Asked
    from ppap.workflow.experts import guide_of
    from ppap.workflow.networks import load_guide
    from ppap.workflow.targets import named

    target, picture = named(layout, text, run.guide, load_guide(layout, run.guide))
    scale = guidance_scale(layout.preset, run.sampler, run.guide) if scale is None else scale
    goal = Goal(guide_of(layout, run), target, scale)
    title = f"{run.guide}: {Path(text).name}"
    return goal, Asked(title, goal.task, target[0], None if picture is None else picture[0].numpy())


def _drawn(layout: Layout, goals: list[Goal], count: int, sampler: str, method: str, seed: int) -> NDArray[np.uint8]:
    """Draw images that are guided to all goals at once, finished ones of a cascade: uint8 (count, H, W, C)."""
    from ppap.diffusion.sampling import sample, upsample
    from ppap.workflow.networks import load_model, load_second_stage

    preset, spec = layout.preset, layout.preset.diffusion.upsampling
    with autocast(preset.runtime):
        images = sample(
            load_model(layout, preset.runtime),
            count,
            goals,
            guidance=preset.guidance(method),
            **preset.drawing(sampler),
            seed=seed,
            batch_size=preset.sampling.batch_size,
            name="guided images",
        )
        if spec is None:
            return images
        seeds = [(seed, place) for place in range(count)]
        second, how = load_second_stage(layout), spec.drawing(preset.module_folders)
        return upsample(second, images, seeds, **how, batch_size=spec.batch_size)


def _paired(guides: list[str], targets: list[str], scales: list[float]) -> list[tuple[str, str, float | None]]:
    """Pair each guide with its target and scale; ConfigError unless each has a target, and a scale if any has one."""
    if len(targets) != len(guides):
        raise ConfigError(f"--target: {len(targets)} targets for {len(guides)} guides; one for each")
    if scales and len(scales) != len(guides):
        raise ConfigError(f"--scale: {len(scales)} scales for {len(guides)} guides; one for each")
    each: list[float | None] = [*scales] or [None] * len(guides)
    return list(zip(guides, targets, each, strict=True))
