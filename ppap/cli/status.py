"""Commands about work that is under way: `ppap status` says how far a preset is, `ppap watch` follows it."""

from __future__ import annotations

from typing import Annotated

import typer

from ppap.cli.arguments import PresetName, layout_of


def status(
    preset: PresetName,
    gpu: Annotated[
        str, typer.Option(help="count, as `ppap plan` does, what nothing measured tells")
    ] = "",
    efficiency: Annotated[
        float, typer.Option(min=0.01, max=1, help="share of the GPU's peak rate that is reached")
    ] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say how far a preset is: jobs done, running, failed and to do, phase by phase, and the work left.

    Nothing is run, and Snakemake is not asked. The time of a job is what it took before, else what jobs like it
    took: those of other numbers, or, roughly, of another method.
    """
    import json

    from ppap.workflow.status import status as telling

    layout = layout_of(preset)
    counted = {}
    if gpu:
        from ppap.workflow.plan import plan

        counted = plan.counted(layout, gpu, efficiency)
    found = telling.Watcher(layout, counted).status()
    if as_json:
        print(json.dumps(telling.as_json(found), indent=2))
        return
    from rich.console import Console

    from ppap.workflow.status.text import as_text

    Console(highlight=False).print(as_text(found), soft_wrap=True)


def watch(
    preset: PresetName,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks")] = 5,
) -> None:
    """Follow a preset until it is done: its status, and how far each running job is.

    On a terminal the same lines are renewed; elsewhere a few lines are printed at a time. Ctrl-C ends it, and
    nothing else.
    """
    from rich.console import Console

    from ppap.workflow.status.watch import watch as follow

    follow(layout_of(preset), every, Console(highlight=False))


def add_to(app: typer.Typer) -> None:
    for command in (status, watch):
        app.command()(command)
