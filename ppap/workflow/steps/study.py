"""The step `study`: a table over all replicates, with error bars that include training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.workflow.layout import Layout
from ppap.workflow.reads import note_keys, study_keys
from ppap.workflow.step import Step

SUFFIXES = ("csv", "md", "tex", "html")


@dataclass(frozen=True)
class Study(Step):
    """Write one table over all replicates, and the differences between its rows."""

    message = "Writing table {wildcards.table} over all replicates"
    resources = "table"
    gpu = False
    once = True

    table: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, layout.preset.tables if layout.preset.replicates else ())

    def outputs(self, layout: Layout) -> list[Path]:
        names = (self.table, f"{self.table}_differences")
        return [layout.table(name, suffix, "study") for name in names for suffix in SUFFIXES]

    def inputs(self, layout: Layout) -> list[Path]:
        return layout.study_inputs(self.table)

    def keys(self, preset: Preset) -> list[str]:
        return [*study_keys(preset, self.table), *note_keys(preset, self.table)]

    def run(self, layout: Layout) -> None:
        """Write both tables in all formats, or nothing; DataError names a replicate that has no results."""
        files.write_texts(self.texts(layout))

    def texts(self, layout: Layout) -> dict[Path, str]:
        """Return what the files of both tables are to hold."""
        from ppap.workflow import table_rows  # here, so that no other job waits for pandas

        if not layout.preset.replicates:
            raise ConfigError(f"preset {layout.preset.name} has no `replicates`")
        tables = table_rows.study_texts(layout, self.table)
        return {layout.table(name, s, "study"): text for name, texts in tables.items() for s, text in texts.items()}
