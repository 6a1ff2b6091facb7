"""`ppap config`: show or check a preset, or say where its results are."""

from __future__ import annotations

import typer

from ppap import config as presets
from ppap import runs
from ppap.cli_arguments import Preset, open_preset
from ppap.errors import DataError

config_app = typer.Typer(
    help="Show or check a preset, or print its JSON schema.", no_args_is_help=True
)


@config_app.command("show")
def config_show(preset: Preset) -> None:
    """Print a preset with every default filled in, as YAML."""
    import yaml

    config, _ = open_preset(preset)
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")


@config_app.command("check")
def config_check(preset: Preset) -> None:
    """Check a preset; exit code 2 and one line for each thing that is wrong."""
    config, _ = open_preset(preset)
    print(f"{presets.find(preset)}: fine ({len(runs.all_runs(config))} sample sets)")


@config_app.command("where")
def config_where(preset: Preset) -> None:
    """Say where a preset's tables and figures lie, and which are missing."""
    config, layout = open_preset(preset)
    tables = [layout.table(name, "md") for name in config.tables]
    missing = [str(path) for path in tables if not path.exists()]
    if missing:
        raise DataError(f"{', '.join(missing)}: not computed yet")
    print(f"The tables are in {layout.root / 'tables'}, the figures in {layout.root / 'figures'}:")
    print("\n".join(f"  {path}" for path in tables))


@config_app.command("phases")
def config_phases(preset: Preset) -> None:
    """Write what of a preset each phase depends on, for DVC: results/PRESET/phases/PHASE.json."""
    from ppap.dependencies import write_phases

    write_phases(*open_preset(preset))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of a preset (kept in workflow/schemas/config.schema.json)."""
    print(presets.json_schema(), end="")
