"""Commands about finished results: `ppap publish` keeps them in git, `ppap compare` compares two sets of them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ppap.cli.arguments import PresetName, Started, app, open_preset, preset_names


class Format(enum.StrEnum):
    text = "text"
    json = "json"
    markdown = "markdown"


@app.command()
def publish(preset: PresetName) -> None:
    """Copy a preset's finished tables, figures and metrics to published/PRESET, for git.

    Of a preset with `replicates`: the tables and figures over all of them, and the metrics of each. The tables in
    README.md and docs/study.md that are marked with their paths are renewed with them. Refuses results that are
    incomplete; a second time there is nothing to do.
    """
    from ppap.config.runs import all_runs
    from ppap.report import publish as publishing
    from ppap.utils.errors import ConfigError
    from ppap.workflow.steps import jobs_of_all_runs
    from ppap.workflow.steps.figure import Figure
    from ppap.workflow.steps.metrics import Metrics
    from ppap.workflow.steps.study import Study
    from ppap.workflow.steps.study_figure import StudyFigure
    from ppap.workflow.steps.table import Table

    layout = open_preset(preset)
    if layout.preset.is_replicate:
        raise ConfigError("--replicate: a preset's replicates are published together, without it")
    kinds = Study | StudyFigure | Metrics if layout.preset.replicates else Table | Figure | Metrics
    placed = [(run, job) for run, job in jobs_of_all_runs(layout) if isinstance(job, kinds)]
    tables = [job for _, job in placed if isinstance(job, Table | Study)]
    written = ((job, *item) for job in tables for item in job.texts(layout).items())
    changed = publishing.publish(
        made=[path for run, job in placed for path in job.outputs(run)],
        root=layout.root,
        runs={run: layout.metrics(run.sampler, run.guide) for run in all_runs(layout.preset)},
        tables={path: text for job, path, text in written if isinstance(job, Study) or path.suffix == ".json"},
    )
    print("\n".join(map(str, changed)) if changed else f"{publishing.PUBLISHED}: nothing to renew")


@app.command()
def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="a preset, a name in results/, or a folder that holds metrics/ or tables/", autocompletion=preset_names
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            help="another, or a name in published/; left out: what is published of the first",
            autocompletion=preset_names,
        ),
    ] = "",
    shown_as: Annotated[Format, typer.Option("--format")] = Format.text,
    strict: Annotated[bool, typer.Option(help="exit code 1 if a row differs, or is missing on one side")] = False,
    if_published: Annotated[bool, typer.Option(help="say nothing where nothing is published to compare with")] = False,
) -> None:
    """Compare two sets of results, row by row, in units of the spread of both.

    The last line says how many rows agree, and which differs most. The spread is over sampling seeds; what
    agrees allows for another training, too.
    """
    from ppap.report import compare as comparing
    from ppap.report import compare_formats as formats
    from ppap.report.publish import PUBLISHED
    from ppap.utils.errors import DataError

    folder = _folder(first, Started.results)
    published = PUBLISHED / folder.name
    if second:
        other = comparing.read(_folder(second, Started.results, PUBLISHED))
    elif published.is_dir():
        other = comparing.read(published, "the published table")
    elif if_published:
        return
    else:
        raise DataError(f"{published}: nothing is published of {first}; name a second one")
    comparison = comparing.compare(comparing.read(folder), other)
    show = {Format.text: formats.as_text, Format.json: formats.as_json, Format.markdown: formats.as_markdown}
    print(show[shown_as](comparison))
    if strict and not comparison.agrees:
        raise typer.Exit(1)


def _folder(name: str, *places: Path) -> Path:
    """Find the folder of results that a user names: a path, a name in one of these places, or a preset's."""
    from ppap.config import reading as presets
    from ppap.utils.errors import DataError

    for folder in (*(place / name for place in places), Path(name)):
        if folder.is_dir():
            return folder
    if not presets.find(name).is_file():
        raise DataError(f"{name}: neither a folder of results nor a preset")
    return open_preset(name).root
