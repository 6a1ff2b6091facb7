"""`ppap config`: show or check a preset, or say where its results are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ppap import config as presets
from ppap.cli.arguments import PresetName, layout_of, open_preset
from ppap.config import runs
from ppap.utils.errors import ConfigError, DataError, PPAPError
from ppap.workflow.phases import PHASES

config_app = typer.Typer(
    help="Show or check a preset, or print its JSON schema.", no_args_is_help=True
)


@config_app.command("show")
def config_show(preset: PresetName) -> None:
    """Print a preset with every default filled in, as YAML."""
    import yaml

    config = open_preset(preset).preset
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")


@config_app.command("check")
def config_check(
    preset: PresetName,
    files: Annotated[
        bool, typer.Option(help="also that the files and folders it names by path are there")
    ] = False,
) -> None:
    """Check a preset in full; exit code 2 and one line for each thing that is wrong.

    Every network that it names is built, without memory for its weights; models of your own are built in
    earnest, and tried on noise. Nothing is downloaded. `snakemake` does the same, with --files, before its
    first job.
    """
    try:
        layout = open_preset(preset)
    except presets.PresetError as error:
        _refuse([ConfigError(problem) for problem in error.problems])
    from ppap.workflow.check.preset import problems

    source = presets.find(preset)
    _refuse([_of_file(source, problem) for problem in problems(layout, files)])
    print(f"{presets.find(preset)}: fine ({len(runs.all_runs(layout.preset))} sample sets)")


def _of_file(source: Path, problem: PPAPError) -> PPAPError:
    named = type(problem)(f"{source}: {problem}")
    named.__cause__ = problem.__cause__
    return named


def _refuse(problems: Sequence[PPAPError]) -> None:
    """Say everything that is wrong: the last thing by raising it."""
    for problem in problems[:-1]:
        print(f"ppap: {problem}", file=sys.stderr)
    for problem in problems[-1:]:
        raise problem from problem.__cause__


@config_app.command("where")
def config_where(preset: PresetName) -> None:
    """Say where a preset's tables and figures lie, and which are missing."""
    layout = open_preset(preset)
    config = layout.preset
    tables = [layout.table(name, "md") for name in config.tables]
    missing = [str(path) for path in tables if not path.exists()]
    if missing:
        raise DataError(f"{', '.join(missing)}: not computed yet")
    print(f"The tables are in {layout.tables}, the figures in {layout.figures}:")
    print("\n".join(f"  {path}" for path in tables))


@config_app.command("phases")
def config_phases(preset: PresetName) -> None:
    """Write what of a preset each phase depends on, for DVC: results/PRESET/phases/PHASE.json."""
    from ppap.workflow.phases import write_phases

    write_phases(open_preset(preset))


@config_app.command("rules")
def config_rules(
    preset: PresetName,
    phase: Annotated[str, typer.Argument(help=", ".join(PHASES))],
) -> None:
    """Say which of Snakemake's rules a phase has: the steps' own, or several where jobs share processes."""
    from ppap.workflow.processes import rules_of

    if phase not in PHASES:
        raise ConfigError(f"no phase '{phase}' (there are {', '.join(PHASES)})")
    print(" ".join(rules_of(phase, layout_of(preset))))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of a preset (kept in workflow/schemas/config.schema.json)."""
    print(presets.json_schema(), end="")


@config_app.command("reference")
def config_reference(page: Path) -> None:
    """Write the explanation of every key into a Markdown page, between its two marks (config/README.md has it)."""
    from ppap.config.reference import with_keys

    page.write_text(with_keys(page.read_text(encoding="utf-8"), page), encoding="utf-8")
