"""`ppap guide`: from experts, or an off-the-shelf guide, to pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppap.cli import completion
from ppap.cli.arguments import PresetName, open_preset
from ppap.config.runs import known
from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from ppap.workflow.on_demand import Asked


def guide(
    preset: PresetName,
    guides: Annotated[
        list[str],
        typer.Option(
            "--guide",
            help="a key of `guides`; several times: all at once",
            autocompletion=completion.guide_names,
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
        list[float] | None,
        typer.Option("--scale", min=0, help="of each guide in turn; the preset's if left out"),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="a key of `methods`; experts without labels if left out",
            autocompletion=completion.method_names,
        ),
    ] = "",
    sampler: Annotated[
        str,
        typer.Option(
            help="a key of `samplers`; the figures' if left out",
            autocompletion=completion.sampler_names,
        ),
    ] = "",
    prompt: Annotated[
        str | None, typer.Option(help="for GLIDE, in place of the preset's prompt")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    out: Annotated[Path, typer.Option(help="the sheet's file")] = Path("sheet.png"),
) -> None:
    """Draw images that are guided to a target, and write them as a contact sheet, the target beside them.

    Needs the preset's networks and experts: `snakemake experts` makes them.
    """
    from ppap.report.sheet import check_format, write_sheet
    from ppap.utils import files
    from ppap.workflow import on_demand

    layout = open_preset(preset)
    if prompt is not None:
        layout = replace(layout, preset=layout.preset.prompted(prompt))
    for name in guides:
        known(layout.preset, "guides", name)
    check_format(out)
    files.check_writable(out)
    sampler = sampler or layout.preset.figures.sampler
    method = method or on_demand.default_method(layout.preset)
    known(layout.preset, "samplers", sampler)
    known(layout.preset, "methods", method)
    asked = _paired(guides, targets, scales or [])
    wanted = on_demand.aims(layout, asked, sampler, method)
    images = on_demand.draw(layout, wanted, count, sampler, method, seed)
    write_sheet(out, wanted, images)
    print(out)


def _paired(guides: list[str], targets: list[str], scales: list[float]) -> list[Asked]:
    """What is asked of each guide; ConfigError unless each has a target, and a scale if any has one."""
    from ppap.workflow.on_demand import Asked

    if len(targets) != len(guides):
        raise ConfigError(
            f"--target: {len(targets)} targets for {len(guides)} guides; one for each"
        )
    if scales and len(scales) != len(guides):
        raise ConfigError(f"--scale: {len(scales)} scales for {len(guides)} guides; one for each")
    each: list[float | None] = [*scales] or [None] * len(guides)
    return [Asked(*one) for one in zip(guides, targets, each, strict=True)]
