"""Keys that decide which rows tables and figures have, and what stands in them."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.config.runs import computed_runs, drawn_runs, has_warm_start, table_runs
from ppap.workflow.reads.experts import bank_keys
from ppap.workflow.reads.networks import task_key


def rows_keys(preset: Preset, table: str) -> list[str]:
    """The keys that tell which rows of a table are computed."""
    if preset.supervised:
        return [f"tables.{table}", "supervised"]
    methods = (run.method for run in table_runs(preset, table))
    return [f"tables.{table}", "supervised", *(f"methods.{m}.supervision" for m in methods)]


def values_keys(preset: Preset, table: str) -> list[str]:
    """The keys that the values in a table depend on."""
    keys = [*rows_keys(preset, table), "sampling.samples", "sampling.seeds"]
    for run in table_runs(preset, table):
        keys += [f"methods.{run.method}.guidance", f"guides.{run.guide}.stands_for"]
        keys += task_key(preset, run.guide)
    for run in computed_runs(preset, table):
        if preset.guidance(run.method).experts:
            keys += [*bank_keys(preset, run.guide, run.method), f"methods.{run.method}.imported"]
            keys += [f"guides.{run.guide}.experts.steps", "experts.warm_start"]
            if has_warm_start(preset, preset.methods[run.method]):
                keys.append("experts.warm_share")
    return keys


def table_keys(preset: Preset, table: str) -> list[str]:
    """The keys that a table reads: its values, its note, and whether the paper's printed values may stand beside."""
    scales = [f"samplers.{run.sampler}.scale" for run in table_runs(preset, table)]
    scales += [f"guides.{run.guide}.scales" for run in table_runs(preset, table)]
    return [*values_keys(preset, table), *scales, "dataset.image_size", "dataset.classes"]


def drawn_keys(preset: Preset, guide: str) -> list[str]:
    """The keys that tell which runs of a guide figures show, and which of them have guidance."""
    methods = (run.method for run in drawn_runs(preset, guide))
    own = [*rows_keys(preset, "main"), "figures.sampler"]
    return own + [f"methods.{method}.guidance" for method in methods]
