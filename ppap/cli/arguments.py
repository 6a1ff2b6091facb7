"""Arguments that commands share, and the preset, folders and names that they speak of."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ppap import config as presets
from ppap.cli import completion
from ppap.config import Preset, runs
from ppap.config.runs import Run, known
from ppap.utils.errors import ConfigError
from ppap.utils.settings import UNGUIDED
from ppap.workflow.layout import Layout

PresetName = Annotated[
    str,
    typer.Argument(
        help="a name in config/, or the path of a preset file",
        autocompletion=completion.preset_names,
    ),
]
Guide = Annotated[
    str,
    typer.Argument(
        help="a key of `guides`; `unguided` with method none",
        autocompletion=completion.guided_names,
    ),
]
Sampler = Annotated[
    str, typer.Argument(help="a key of `samplers`", autocompletion=completion.sampler_names)
]
Method = Annotated[
    str, typer.Argument(help="a key of `methods`", autocompletion=completion.method_names)
]
ShardIndex = Annotated[int, typer.Option(min=0, help="which shard, counted from 0")]


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
    from ppap.utils import runtime

    layout = layout_of(preset)
    runtime.keep_freed_memory()
    runtime.keep_compiled(layout.compiled)
    return layout


def layout_of(preset: str) -> Layout:
    """Load a preset, and say where its files lie; without torch, unless code of the user's own imports it."""
    loaded = presets.load(presets.find(preset))
    return Layout(loaded, Started.results, Started.scratch, Started.downloads)


def run_of(preset: Preset, sampler: str, guide: str, method: str) -> Run:
    """The run that holds these samples; ConfigError if a name is unknown."""
    known(preset, "samplers", sampler)
    known(preset, "methods", method)
    if preset.guidance(method).guided:
        known(preset, "guides", guide)
    return runs.stored_as(preset, Run(sampler, guide, method))


def chosen_methods(
    preset: Preset, sampler: str, guide: str, methods: list[str]
) -> tuple[str, tuple[str, ...]]:
    """A guide and its methods, these or all, whose features lie in one file; ConfigError if they do not."""
    named = [run_of(preset, sampler, guide, method) for method in dict.fromkeys(methods)]
    chosen = named or runs.group(preset, sampler, guide)
    if not chosen:
        raise ConfigError(
            f"preset {preset.name} has no runs with sampler '{sampler}' and guide '{guide}'"
        )
    if len({run.guide for run in chosen}) > 1:
        alone = next(run.method for run in chosen if run.guide == UNGUIDED)
        raise ConfigError(f"{alone}: has no guide; give it alone, not with methods of {guide}")
    return chosen[0].guide, tuple(run.method for run in chosen)
