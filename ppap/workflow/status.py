"""The status of a preset: its files that are there, stage by stage, and the time that is left."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import timedelta
from statistics import mean
from typing import Any

from tabulate import tabulate

from ppap.workflow.layout import Layout
from ppap.workflow.measured import seconds
from ppap.workflow.stages import by_stage
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Row:
    """A stage, or all: files there of files wanted, jobs left, and the seconds that these take (None: unknown)."""

    stage: str
    files: int
    wanted: int
    jobs_left: int
    seconds_left: float | None


def status(layout: Layout) -> list[Row]:
    """Count a preset's files, stage by stage, and in a last row all of them.

    A job that is left takes the mean of the finished jobs of its step, as Snakemake has measured them. Jobs side by
    side are not reckoned with, nor is what is stale.
    """
    stages = {stage: jobs for stage, jobs in by_stage(layout).items() if jobs}
    everything = [job for jobs in stages.values() for job in jobs]
    times = _mean_seconds(layout, everything)
    return [_row(layout, stage, jobs, times) for stage, jobs in [*stages.items(), ("total", everything)]]


def _mean_seconds(layout: Layout, jobs: list[Step]) -> dict[str, float]:
    """Average the measured times of each step's jobs."""
    times: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        taken = seconds(layout.benchmark(job.name(layout)))
        if taken is not None:
            times[job.rule()].append(taken)
    return {step: mean(each) for step, each in times.items()}


def _row(layout: Layout, stage: str, jobs: list[Step], times: dict[str, float]) -> Row:
    outputs = {job: [path.exists() for path in job.outputs(layout)] for job in jobs}
    left = [times.get(job.rule()) for job, there in outputs.items() if not all(there)]
    return Row(
        stage,
        sum(map(sum, outputs.values())),
        sum(map(len, outputs.values())),
        len(left),
        None if None in left else sum(each for each in left if each is not None),
    )


def as_json(layout: Layout, rows: list[Row]) -> dict[str, Any]:
    """Return the status for programs; seconds that are not known are null."""
    *stages, total = map(asdict, rows)
    return {"preset": layout.preset.name, "stages": stages, "total": total}


def as_text(layout: Layout, rows: list[Row]) -> str:
    """Return the status for people."""
    cells = [[row.stage, f"{row.files:,} of {row.wanted:,}", f"{row.jobs_left:,}", _time(row)] for row in rows]
    headers, align = ["stage", "files", "jobs left", "time left"], ["left", *["right"] * 3]
    table = tabulate(cells, headers, "simple", disable_numparse=True, colalign=align)
    return f"Preset {layout.preset.name}\n\n{table}"


def _time(row: Row) -> str:
    return "unknown" if row.seconds_left is None else str(timedelta(seconds=round(row.seconds_left)))
