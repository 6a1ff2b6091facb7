"""Commands about a preset: `ppap config` shows and checks it, `ppap plan` and `ppap status` say what work it is."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ppap.cli.arguments import PresetName, app, open_preset

config_app = typer.Typer(help="Show or check a preset, or print its JSON schema.", no_args_is_help=True)
app.add_typer(config_app, name="config")

AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


@config_app.command()
def show(preset: PresetName) -> None:
    """Print a preset with every default filled in, as YAML."""
    import yaml

    config = open_preset(preset).preset
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")


@config_app.command()
def check(
    preset: PresetName,
    files: Annotated[bool, typer.Option(help="also that the files and folders it names by path are there")] = False,
) -> None:
    """Check a preset in full; exit code 2 and one line for each thing that is wrong.

    Every network that it names is built, without memory for its weights; code of your own is run in earnest, on
    noise. Nothing is downloaded. `snakemake` does the same, with --files, before its first job.
    """
    from ppap.config import reading as presets
    from ppap.config import runs
    from ppap.workflow.check import problems

    source = presets.find(preset)
    try:
        layout = open_preset(preset)
        wrong = [f"{source}: {problem}" for problem in problems(layout, files)]
    except presets.PresetError as error:
        wrong = error.problems
    for line in wrong:
        print(f"ppap: {line}", file=sys.stderr)
    if wrong:
        raise typer.Exit(2)
    print(f"{source}: fine ({len(runs.all_runs(layout.preset))} sample sets)")


@config_app.command()
def where(preset: PresetName) -> None:
    """Say where a preset's tables and figures lie, and which are missing."""
    from ppap.utils.errors import DataError

    layout = open_preset(preset)
    studied = ["study"] if layout.preset.replicates else []
    tables = [layout.table(name, "md", folder) for folder in ("tables", *studied) for name in layout.preset.tables]
    missing = [str(path) for path in tables if not path.exists()]
    if missing:
        raise DataError(f"{', '.join(missing)}: not computed yet")
    print(f"The tables are in {layout.tables}, the figures in {layout.figures}:")
    print("\n".join(f"  {path}" for path in tables))


@config_app.command()
def stages(preset: PresetName) -> None:
    """Write what of a preset each stage depends on, for DVC: results/PRESET/stages/STAGE.json."""
    from ppap.workflow.stages import write_stages

    write_stages(open_preset(preset))


@config_app.command()
def schema() -> None:
    """Print the JSON schema of a preset (kept in workflow/schemas/config.schema.json)."""
    from ppap.config import reading as presets

    print(presets.json_schema(), end="")


@app.command()
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


@app.command()
def status(preset: PresetName, as_json: AsJson = False) -> None:
    """Say how far a preset is: current files of files that are wanted, stage by stage, and the time left.

    Jobs are left, and files stale, where `snakemake -n` says so. A job that is left takes as long as the finished jobs
    of its step, in the mean. Nothing is run.
    """
    from ppap.config import reading as presets
    from ppap.workflow import status as telling

    layout = open_preset(preset)
    rows = telling.status(layout, presets.find(preset))
    print(json.dumps(telling.as_json(layout, rows), indent=2) if as_json else telling.as_text(layout, rows))
