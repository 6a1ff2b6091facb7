"""`ppap guide`: from experts, or an off-the-shelf guide, to pictures, by a preset or by a pipeline."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppap.cli.arguments import PresetName, Started, app, names_in, open_preset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ppap.config.preset import Preset
    from ppap.config.runs import Run
    from ppap.experts.bank import ExpertBank
    from ppap.guides.goal import Goal
    from ppap.report.sheet import Asked
    from ppap.workflow.layout import Layout


class Device(enum.StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class Wish:
    """The options that both ways take."""

    targets: Sequence[str]
    scales: Sequence[float]
    count: int
    sampler: str
    prompt: str | None
    seed: int


@app.command()
def guide(
    preset: PresetName = "",
    guides: Annotated[
        list[str] | None,
        typer.Option(
            "--guide", help="a key of `guides`; several times: all at once", autocompletion=names_in("guides")
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="a key of `methods`; experts without labels if left out", autocompletion=names_in("methods")),
    ] = "",
    pipeline: Annotated[
        str, typer.Option(help="in place of a preset: a pipeline's folder, or its name on the hub")
    ] = "",
    experts: Annotated[
        list[str] | None,
        typer.Option(help="with --pipeline: a folder of experts, or USER/NAME on the hub; several times: all at once"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="with --experts, of each in turn: the file of the guide's weights, if they are its own"),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="with --pipeline; 25 if left out")] = None,
    device: Annotated[Device | None, typer.Option(help="with --pipeline; a GPU if there is one, if left out")] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="of each guide in turn: a class by name or number; a depth or label map (.npy, .png), or "
            "a picture, which the guide itself looks at; with --pipeline, of CLIP and SigLIP, words; of a score a "
            'number, or "" to raise it',
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="images")] = 8,
    scales: Annotated[
        list[float] | None,
        typer.Option("--scale", min=0, help="of each guide in turn; if left out the preset's, with --pipeline 1"),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="a key of `samplers`, the figures' if left out; with --pipeline ddim, ddpm, euler or heun",
            autocompletion=names_in("samplers"),
        ),
    ] = "",
    prompt: Annotated[str | None, typer.Option(help="of the pipeline; or in place of the preset's prompts")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    out: Annotated[Path, typer.Option(help="the sheet's file")] = Path("sheet.png"),
) -> None:
    """Draw images that are guided to a target, and write them as a contact sheet, the target beside them.

    By a preset, whose networks and experts `snakemake experts` makes; or by a pipeline of diffusers and experts that
    `ExpertBank.save` or `push_to_hub` wrote: --pipeline with --experts.
    """
    from ppap.report.sheet import check_format, write_sheet
    from ppap.utils import files

    wish = Wish(targets or [], scales or [], count, sampler, prompt, seed)
    of_preset = {"--guide": guides, "--method": method}
    of_pipeline = {"--experts": experts, "--weights": weights, "--steps": steps, "--device": device}
    _check_way(preset, pipeline, of_preset, of_pipeline)
    _check_each("--experts" if pipeline else "--guide", (experts if pipeline else guides) or [], wish, weights or [])
    check_format(out)
    files.check_writable(out)
    if pipeline:
        asked, images = _by_pipeline(pipeline, experts or [], weights or [], steps or 25, device or Device.auto, wish)
    else:
        asked, images = _by_preset(preset, guides or [], method, wish)
    write_sheet(out, asked, images)
    print(out)


def _check_way(preset: str, pipeline: str, of_preset: Mapping[str, object], of_pipeline: Mapping[str, object]) -> None:
    """Raise ConfigError unless there is either a preset or a pipeline, and no option of the other."""
    from ppap.utils.errors import ConfigError

    if bool(preset) == bool(pipeline):
        both = f"not together with the preset {preset}" if preset else "name a pipeline, or a preset"
        raise ConfigError(f"--pipeline: {both}")
    for option, value in (of_preset if pipeline else of_pipeline).items():
        if value:
            raise ConfigError(f"{option}: goes with {'a preset' if pipeline else '--pipeline'}")


def _check_each(option: str, guides: Sequence[str], wish: Wish, weights: Sequence[str]) -> None:
    """Raise ConfigError unless each guide has a target, and a scale, and weights, if any has."""
    from ppap.utils.errors import ConfigError

    if not guides:
        raise ConfigError(f"{option}: name one at least")
    if len(wish.targets) != len(guides):
        raise ConfigError(f"--target: {len(wish.targets)} targets for {len(guides)} guides; one for each")
    if wish.scales and len(wish.scales) != len(guides):
        raise ConfigError(f"--scale: {len(wish.scales)} scales for {len(guides)} guides; one for each")
    if weights and len(weights) != len(guides):
        raise ConfigError(f"--weights: {len(weights)} files for {len(guides)} guides; one for each")


# -- by a pipeline -----------------------------------------------------------------------------------


def _by_pipeline(
    pipeline: str, experts: Sequence[str], weights: Sequence[str], steps: int, device: str, wish: Wish
) -> tuple[list[Asked], NDArray[np.uint8]]:
    """Draw by a pipeline of diffusers and experts in folders, or on the hub: what was asked, and uint8 (N, H, W, C)."""
    import ppap
    from ppap.utils.device import Runtime, device_of, keep_freed_memory

    keep_freed_memory()
    place = device_of(Runtime.model_validate({"device": device}))
    model = ppap.load_pipeline(pipeline, folder=Started.downloads)
    for network in filter(None, (model.network, model.autoencoder)):
        network.to(place)
    if wish.prompt is not None:
        model = model.prompted(wish.prompt)
    goals, asked = [], []
    each = zip(experts, weights or [""] * len(experts), wish.targets, wish.scales or [1.0] * len(experts), strict=True)
    for name, file, target, scale in each:
        bank = ppap.load_experts(name, model=model, weights=file or None, downloads=Started.downloads)
        bank.guide.to(place)
        goal, said = _goal(bank, target, scale, model.picture_shape)
        goals.append(goal)
        asked.append(said)
    sampler = wish.sampler or ("euler" if model.predicts == "flow" else "ddim")
    return asked, ppap.sample(
        model, wish.count, goals, sampler=sampler, steps=steps, seed=wish.seed, batch_size="auto", name="guided images"
    )


def _goal(bank: ExpertBank, text: str, scale: float, shape: tuple[int, int, int]) -> tuple[Goal, Asked]:
    """Return the goal that a user asks experts for, a file, a number or words, and what the sheet says of it."""
    import ppap
    from ppap.guides.target_files import target_in
    from ppap.report.sheet import Asked

    picture = None
    if Path(text).is_file():
        target, picture = target_in(Path(text), shape, bank.guide)
        text = Path(text).name
    elif bank.guide.reader:
        target = bank.guide.text(text)
    else:
        names = [name.partition(",")[0] for name in bank.guide.class_names]
        target = ppap.Goal(bank, names.index(text) if text in names else _number(text)).targets(1, shape)
    goal = ppap.Goal(bank, target, scale)
    asked = Asked(f"{bank.guide.name}: {text}", goal.task, target[0], None if picture is None else picture[0].numpy())
    return goal, asked


def _number(text: str) -> int | float | str | None:
    """Read a number; what is none stays as it is, to be refused, and without any text there is no target."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text or None


# -- by a preset -------------------------------------------------------------------------------------


def _by_preset(preset: str, guides: Sequence[str], method: str, wish: Wish) -> tuple[list[Asked], NDArray[np.uint8]]:
    """Draw by a preset's networks and experts: what was asked for, and images, uint8 (N, H, W, C)."""
    from dataclasses import replace

    from ppap.config.guidance_scales import guidance_scale
    from ppap.config.runs import Run, known
    from ppap.utils.errors import ConfigError

    layout = open_preset(preset)
    if wish.prompt is not None:
        layout = replace(layout, preset=layout.preset.prompted(wish.prompt))
    chosen = layout.preset
    sampler, method = wish.sampler or chosen.figures.sampler, method or default_method(chosen)
    for section, name in [("samplers", sampler), ("methods", method), *(("guides", name) for name in guides)]:
        known(chosen, section, name)
    if not _guides(chosen, method):
        raise ConfigError(f"methods.{method}: does not guide")
    scales = wish.scales or [guidance_scale(chosen, sampler, name, method) for name in guides]
    wanted = [
        _wanted(layout, Run(sampler, name, method), target, scale)
        for name, target, scale in zip(guides, wish.targets, scales, strict=True)
    ]
    images = _drawn(layout, [goal for goal, _ in wanted], wish.count, sampler, method, wish.seed)
    return [asked for _, asked in wanted], images


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
