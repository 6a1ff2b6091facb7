"""`ppap config`: show or check a preset, or say where its results are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ppap.cli.arguments import PresetName, open_preset
from ppap.utils.errors import DataError

config_app = typer.Typer(help="Show or check a preset, or print its JSON schema.", no_args_is_help=True)


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

    Every network that it names is built, without memory for its weights; models of your own are built in
    earnest, and tried on noise. Nothing is downloaded. `snakemake` does the same, with --files, before its
    first job.
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
    layout = open_preset(preset)
    tables = [layout.table(name, "md") for name in layout.preset.tables]
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
