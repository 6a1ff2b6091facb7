"""Commands about the work of a preset: `ppap plan` says what it takes, `ppap status` how far it is."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ppap.cli.arguments import AsJson, PresetName, open_preset


def plan(
    preset: PresetName,
    gpu: Annotated[str, typer.Option(help="V100, A100, H100, H200, RTX 3090, RTX 4090, L40S")] = "A100",
    efficiency: Annotated[
        float, typer.Option(min=0.01, max=1, help="share of the GPU's peak rate that is reached")
    ] = 0.35,
    as_json: AsJson = False,
) -> None:
    """Say what a preset takes: jobs, GPU hours and disk of each stage, and the longest chain of jobs.

    Hours are measured where the workflow has run, else counted: floating-point operations of the
    networks, over a share of the GPU's peak rate. A preset for the CPU has measured hours only.
    """
    from ppap.workflow.plan import plan as planning

    made = planning.plan(open_preset(preset), gpu, efficiency)
    print(json.dumps(planning.as_json(made), indent=2) if as_json else planning.as_text(made))


def status(preset: PresetName, as_json: AsJson = False) -> None:
    """Say how far a preset is: files that are there of files that are wanted, stage by stage, and the time left.

    A job that is left takes as long as the finished jobs of its step, in the mean. Nothing is run, and Snakemake is
    not asked: `snakemake -n` says which files are stale.
    """
    from ppap.workflow import status as telling

    layout = open_preset(preset)
    rows = telling.status(layout)
    made = telling.as_json(layout, rows)
    print(json.dumps(made, indent=2) if as_json else telling.as_text(layout, rows))


def add_to(app: typer.Typer) -> None:
    for command in (plan, status):
        app.command()(command)
