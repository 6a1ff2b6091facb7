"""The status of a preset, by Snakemake's own account: files that are current, stage by stage, and the time left."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any

from tabulate import tabulate

from ppap.utils.errors import ConfigError
from ppap.workflow.layout import Layout
from ppap.workflow.stages import Placed, by_stage


@dataclass(frozen=True)
class Row:
    """A stage, or all: current files of files wanted, stale ones, jobs left, and their seconds (None: unknown)."""

    stage: str
    files: int
    wanted: int
    stale: int
    jobs_left: int
    seconds_left: float | None


def status(layout: Layout, preset: Path) -> list[Row]:
    """Count a preset's files, stage by stage, and in a last row all of them.

    Jobs are left, and files stale, where `snakemake -n` says so. A job that is left takes the mean of the finished
    jobs of its step, as Snakemake has measured them. Jobs side by side are not reckoned with.
    """
    stages = {stage: jobs for stage, jobs in by_stage(layout).items() if jobs}
    everything = [job for jobs in stages.values() for job in jobs]
    times, current = _mean_seconds(everything), _current(layout, preset)
    return [_row(layout, stage, jobs, times, current) for stage, jobs in [*stages.items(), ("total", everything)]]


def _current(layout: Layout, preset: Path) -> dict[str, bool]:
    """Ask Snakemake of each file whether it is current; ConfigError with Snakemake's own line if it cannot say."""
    if layout.results.name != "results":
        raise ConfigError(f"--results {layout.results}: the workflow writes to a folder called results")
    command = [sys.executable, "-m", "snakemake", "--summary", "--directory", str(layout.results.absolute().parent)]
    done = subprocess.run([*command, "--config", f"preset={preset.absolute()}"], capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"snakemake --summary: {(done.stderr.strip() or 'ended early').splitlines()[-1]}")
    rows = csv.DictReader(done.stdout.splitlines(), delimiter="\t")
    return {row["output_file"]: row["plan"] == "no update" for row in rows}


def _mean_seconds(jobs: list[Placed]) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    for run, job in jobs:
        taken = job.seconds(run)
        if taken is not None:
            times[job.rule()].append(taken)
    return {step: mean(each) for step, each in times.items()}


def _row(layout: Layout, stage: str, jobs: list[Placed], times: dict[str, float], current: Mapping[str, bool]) -> Row:
    paths = [[str(path.relative_to(layout.results.parent)) for path in job.outputs(run)] for run, job in jobs]
    left = [times.get(job.rule()) for (_, job), (first, *_) in zip(jobs, paths, strict=True) if not current[first]]
    written = [path for each in paths for path in each]
    there = [path for path in written if (layout.results.parent / path).exists()]
    return Row(
        stage,
        sum(current[path] for path in there),
        len(written),
        sum(not current[path] for path in there),
        len(left),
        None if None in left else sum(each for each in left if each is not None),
    )


def as_json(layout: Layout, rows: list[Row]) -> dict[str, Any]:
    """Return the status for programs; seconds that are not known are null."""
    *stages, total = map(asdict, rows)
    return {"preset": layout.preset.name, "stages": stages, "total": total}


def as_text(layout: Layout, rows: list[Row]) -> str:
    cells = [[r.stage, f"{r.files:,} of {r.wanted:,}", f"{r.stale:,}", f"{r.jobs_left:,}", _time(r)] for r in rows]
    headers, align = ["stage", "files", "stale", "jobs left", "time left"], ["left", *["right"] * 4]
    table = tabulate(cells, headers, "simple", disable_numparse=True, colalign=align)
    return f"Preset {layout.preset.name}\n\n{table}"


def _time(row: Row) -> str:
    return "unknown" if row.seconds_left is None else str(timedelta(seconds=round(row.seconds_left)))
