"""The rows of tables over replicates, gathered from every replicate's metrics."""

from __future__ import annotations

from ppap.config.runs import Run, stored_as, table_runs
from ppap.evaluation.replicates import Values
from ppap.report import replicates
from ppap.report.replicates import Row
from ppap.utils.errors import DataError
from ppap.workflow.layout import Layout
from ppap.workflow.table_rows import about, metrics, table_scores


def texts(layout: Layout, name: str) -> dict[str, dict[str, str]]:
    """Write a table over all replicates: its means and differences, in all formats (see `ppap.report.replicates`)."""
    preset = layout.preset
    rows = [
        Row(run, stored_as(preset, run), _values(layout, run) if preset.computed(run.method) else {})
        for run in table_runs(preset, name)
    ]
    count = len(preset.replicates)
    return replicates.texts(name, rows, table_scores(preset, name), about(preset, name), count)


def _values(layout: Layout, row: Run) -> dict[str, Values]:
    """Read a row's metrics by replicate and sampling seed; DataError names a replicate that lacks them."""
    by_metric: dict[str, dict[int, dict[int, float]]] = {}
    for run in layout.runs:
        found = metrics(run, row)
        if not found:
            stored = stored_as(run.preset, row)
            raise DataError(
                f"{run.metrics(stored.sampler, stored.guide)}: replicate {run.preset.seed} has no {row.method} yet; "
                f"snakemake --config preset={layout.preset.name} -- replicates"
            )
        for name, spread in found.items():
            by_seed = dict(zip(run.preset.sampling.seeds, spread.values, strict=True))
            by_metric.setdefault(name, {})[run.preset.seed] = by_seed
    return dict(by_metric)
