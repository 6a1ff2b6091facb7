"""Commands about finished results: `ppap publish` keeps them in git, `ppap compare` compares two sets of them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ppap.cli import completion
from ppap.cli.arguments import PresetName, open_preset
from ppap.utils.errors import DataError


class Format(enum.StrEnum):
    text = "text"
    json = "json"
    markdown = "markdown"


def publish(preset: PresetName) -> None:
    """Copy a preset's finished tables, figures and metrics to published/PRESET, which belongs into git.

    README.md's tables that are marked with their paths are renewed with them. Refuses results that are
    incomplete; a second time there is nothing to do.
    """
    from ppap.report import publish as publishing

    layout = open_preset(preset)
    changed = publishing.publish(layout)
    print("\n".join(map(str, changed)) if changed else f"{publishing.PUBLISHED}: nothing to renew")


def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="a preset, or a folder that holds metrics/ or tables/",
            autocompletion=completion.preset_names,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            help="another; what is published of the first if left out",
            autocompletion=completion.preset_names,
        ),
    ] = "",
    shown_as: Annotated[Format, typer.Option("--format")] = Format.text,
    strict: Annotated[
        bool, typer.Option(help="exit code 1 if a row differs, or is missing on one side")
    ] = False,
    if_published: Annotated[
        bool, typer.Option(help="say nothing where nothing is published to compare with")
    ] = False,
) -> None:
    """Compare two sets of results, row by row, in units of the spread of both.

    The last line says how many rows agree, and which differs most. The spread is over sampling seeds; what
    agrees allows for another training, too.
    """
    from ppap.report import compare as comparing
    from ppap.report import compare_formats as formats
    from ppap.report.publish import PUBLISHED

    folder = _folder(first)
    published = PUBLISHED / folder.name
    if second:
        other = comparing.read(_folder(second))
    elif published.is_dir():
        other = comparing.read(published, "the published table")
    elif if_published:
        return
    else:
        raise DataError(f"{published}: nothing is published of {first}; name a second one")
    found = comparing.compare(comparing.read(folder), other)
    show = {
        Format.text: formats.as_text,
        Format.json: formats.as_json,
        Format.markdown: formats.as_markdown,
    }
    print(show[shown_as](found))
    if strict and not found.agrees:
        raise typer.Exit(1)


def _folder(name: str) -> Path:
    """The folder of results that a user names: a preset's, or a path."""
    from ppap import config as presets

    if Path(name).is_dir():
        return Path(name)
    if not presets.find(name).is_file():
        raise DataError(f"{name}: neither a folder of results nor a preset")
    return open_preset(name).root


def add_to(app: typer.Typer) -> None:
    for command in (publish, compare):
        app.command()(command)
