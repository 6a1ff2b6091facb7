"""The command line as a whole: its commands, its folders, and how it ends."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ppap.cli import results, status, steps
from ppap.cli.arguments import Guide, Method, NetworkInput, PresetName, Started, open_preset
from ppap.cli.config import config_app
from ppap.cli.guide import guide
from ppap.config.runs import known
from ppap.utils import failures
from ppap.utils import signals as process
from ppap.utils.errors import PPAPError

app = typer.Typer(
    help="Off-the-shelf vision models guide pretrained diffusion models (PPAP, CVPR 2023).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(config_app, name="config")
steps.add_to(app)
results.add_to(app)
status.add_to(app)
app.command()(guide)


@app.callback()
def start(
    context: typer.Context,
    results: Annotated[Path, typer.Option(help="where results/PRESET lies")] = Path("results"),
    scratch: Annotated[Path, typer.Option(help="where unfinished jobs keep checkpoints")] = Path(
        "scratch"
    ),
    downloads: Annotated[
        Path,
        typer.Option(envvar="PPAP_DOWNLOADS", help="where downloaded files lie, for all presets"),
    ] = Path("downloads"),
) -> None:
    Started.step = context.invoked_subcommand or ""
    Started.results, Started.scratch, Started.downloads = results, scratch, downloads


@app.command()
def import_experts(
    preset: PresetName,
    guide: Guide,
    method: Method,
    released: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="the authors' files (.ckpt)")
    ],
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", help="timesteps of each file in turn, as 0-200 (200 not included)"),
    ] = None,
    network_input: Annotated[
        NetworkInput | None,
        typer.Option(
            "--input", help="what the networks see, if not what the authors' code fed them"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="replace trained experts")] = False,
) -> None:
    """Turn experts that the paper's authors released into the preset's own.

    One file for each expert of the method, from the least noise to the most, or in any order with a
    --range for each. Needs the off-the-shelf guide's weights; writes all experts or none.
    """
    from ppap.experts.released import import_experts as run_step
    from ppap.experts.released import sources

    layout = open_preset(preset)
    known(layout.preset, "guides", guide)
    known(layout.preset, "methods", method)
    found = sources(layout.preset, method, released, ranges or [])
    for path in run_step(layout, guide, method, found, network_input, overwrite):
        print(path)


@app.command()
def plan(
    preset: PresetName,
    gpu: Annotated[
        str, typer.Option(help="V100, A100, H100, H200, RTX 3090, RTX 4090, L40S")
    ] = "A100",
    efficiency: Annotated[
        float, typer.Option(min=0.01, max=1, help="share of the GPU's peak rate that is reached")
    ] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say what a preset takes: jobs, GPU hours and disk of each phase, and the longest chain of jobs.

    Hours are measured where the workflow has run, else counted: floating-point operations of the
    networks, over a share of the GPU's peak rate. A preset for the CPU has measured hours only.
    """
    import json

    from ppap.workflow.plan import plan as planning

    made = planning.plan(open_preset(preset), gpu, efficiency)
    print(json.dumps(planning.as_json(made), indent=2) if as_json else planning.as_text(made))


@app.command()
def stop_jobs() -> None:
    """Stop the jobs, local ones and Slurm's, that a killed Snakemake left running in this folder.

    They resume from their checkpoints. `make unlock` calls this, then unlocks the folder.
    """
    from ppap.workflow import orphans

    print(f"stopped {orphans.stop(Path.cwd())} jobs")


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    # The libraries' imports make objects by the million, all of which stay. To search them for garbage at
    # the default rate is a fifth of a step's start, and to free them one by one takes half as long as that
    # start: so the process ends without.
    gc.set_threshold(100_000)
    process.prepare()
    code = run()
    with contextlib.suppress(PPAPError):  # of a stream that `run` has told of already
        sys.stderr.flush()
    os._exit(code)


def run() -> int:
    """Run the command line. What ends it early is one line on standard error.

    Exit codes: 0; 1 for a fault of ppap's; 2 for what a user can put right; 128 + N for signal N.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    Started.step = ""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except process.Stopped as stopped:
        process.ignore_signals()
        failures.say(f"{Started.step}: stopped by {stopped.signal.name}".removeprefix(": "))
        return 128 + stopped.signal
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends so, and says nothing
            return failures.report(end.__context__, Started.step, Started.scratch)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        return failures.report(error, Started.step, Started.scratch)
    return 0
