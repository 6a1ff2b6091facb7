"""The step `table`: the paper's tables, measured values beside printed ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.utils import files
from ppap.workflow.layout import Layout
from ppap.workflow.reads import note_keys, values_keys
from ppap.workflow.step import Step

SUFFIXES = ("csv", "md", "tex", "html", "json")


@dataclass(frozen=True)
class Table(Step):
    """Write one table in five formats."""

    message = "Writing table {wildcards.table}"
    once = True
    gpu = False
    report = ".html"

    table: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, layout.preset.tables)

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.table(self.table, suffix) for suffix in SUFFIXES]

    def inputs(self, layout: Layout) -> list[Path]:
        """List the metrics of the rows, and the headers of their experts."""
        return layout.table_inputs(self.table)

    def keys(self, preset: Preset) -> list[str]:
        """List what the values depend on, the note, and whether the paper's printed values may stand beside."""
        return [*values_keys(preset, self.table), *note_keys(preset, self.table)]

    def run(self, layout: Layout) -> None:
        """Write the table in all formats, or in none. What was not computed stays empty."""
        files.write_texts(self.texts(layout))

    def texts(self, layout: Layout) -> dict[Path, str]:
        """Return what the table's files are to hold."""
        from ppap.workflow import table_rows  # here, so that no other job waits for pandas

        texts = table_rows.texts(layout, self.table)
        return {layout.table(self.table, suffix): texts[suffix] for suffix in SUFFIXES}
