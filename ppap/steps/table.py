"""The step `table`: the paper's tables, measured values beside printed ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.graph.layout import Layout
from ppap.graph.step import Report, Step
from ppap.preset import Preset, reads
from ppap.preset.runs import computed_runs, stored_as

if TYPE_CHECKING:
    from ppap.plan.costs import Cost, Costs

SUFFIXES = ("csv", "md", "tex", "html", "json")


@dataclass(frozen=True)
class Table(Step):
    """Of one table, in five formats."""

    message = "Writing table {wildcards.table}"
    resources = "table"
    gpu = False
    report = Report(".html", "table.rst", "Tables")

    table: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, layout.preset.tables)

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.table(self.table, suffix) for suffix in SUFFIXES]

    def inputs(self, layout: Layout) -> list[Path]:
        """The metrics of the rows, and the headers of their experts."""
        return table_inputs(layout, self.table)

    def labels(self) -> dict[str, str]:
        return {"table": self.table.replace("_", "-")}

    def keys(self, preset: Preset) -> list[str]:
        return reads.table_keys(preset, self.table)

    def cost(self, costs: Costs) -> Cost:
        return costs.nothing()

    def run(self, layout: Layout) -> None:
        from ppap.report.tables import write_table

        write_table(layout, self.table)


def table_inputs(layout: Layout, table: str) -> list[Path]:
    """The metrics of a table's rows, and their experts."""
    runs = computed_runs(layout.preset, table)
    stored = [stored_as(layout.preset, run) for run in runs]
    metrics = [layout.metrics(run.sampler, run.guide) for run in stored]
    experts = [path for run in runs for path in layout.experts(run.guide, run.method)]
    return list(dict.fromkeys([*metrics, *experts]))
