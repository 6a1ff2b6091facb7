"""Arguments that commands share, and the preset, folders and names that they speak of.

What takes seconds to import is imported inside functions, so that `--help` and completion are quick.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppap.cli import completion

if TYPE_CHECKING:
    from ppap.workflow.layout import Layout

PresetName = Annotated[
    str, typer.Argument(help="a name in config/, or the path of a preset file", autocompletion=completion.preset_names)
]
Guide = Annotated[
    str, typer.Argument(help="a key of `guides`; `unguided` with method none", autocompletion=completion.guided_names)
]
Sampler = Annotated[str, typer.Argument(help="a key of `samplers`", autocompletion=completion.sampler_names)]
Method = Annotated[str, typer.Argument(help="a key of `methods`", autocompletion=completion.method_names)]
ShardIndex = Annotated[int, typer.Option(min=0, help="which shard, counted from 0")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


class TableName(enum.StrEnum):
    main = "main"
    capacity = "capacity"
    data_free = "data_free"
    scales = "scales"


class NetworkInput(enum.StrEnum):
    normalised = "normalised"
    unnormalised = "unnormalised"


class Started:
    """The command that runs, and the folders that it was given."""

    step = ""
    results = Path("results")
    scratch = Path("scratch")
    downloads = Path("downloads")


def open_preset(preset: str) -> Layout:
    """Load a preset for work with its networks, and say where its files lie."""
    from ppap.config import reading as presets
    from ppap.utils.device import keep_compiled, keep_freed_memory
    from ppap.workflow.layout import Layout

    loaded = presets.load(presets.find(preset))
    layout = Layout(loaded, Started.results, Started.scratch, Started.downloads)
    keep_freed_memory()
    keep_compiled(layout.compiled)
    return layout
