"""`ppap status`: files there of files wanted, stage by stage, and the time that is left."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ppap.config import reading as presets
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from tests.conftest import SMOKE, ppap


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The smoke preset in a folder without results."""
    monkeypatch.chdir(tmp_path)
    return Layout(presets.load(SMOKE))


def finish(layout: Layout, job: Step, seconds: float) -> None:
    """Write files in the place of what a job writes, and what Snakemake measures of it."""
    for path in job.outputs(layout):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    benchmark = layout.benchmark(job.name(layout))
    benchmark.parent.mkdir(parents=True, exist_ok=True)
    benchmark.write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")


def told() -> dict[str, dict]:
    status = json.loads(ppap("status", SMOKE, "--json").stdout)
    assert status["preset"] == "smoke"
    return {row["stage"]: row for row in (*status["stages"], status["total"])}


def test_files_are_counted_and_jobs_take_what_those_of_their_step_took(layout: Layout) -> None:
    jobs = list(all_jobs(layout))
    wanted = sum(len(job.outputs(layout)) for job in jobs)
    assert told()["total"] == {
        "stage": "total", "files": 0, "wanted": wanted, "jobs_left": len(jobs), "seconds_left": None,
    }  # fmt: skip
    samples = [job for job in jobs if job.rule() == "sample"]
    finish(layout, samples[0], 10)
    finish(layout, samples[1], 20)
    samples[1].outputs(layout)[0].unlink()  # one of its two files: the job is to be done again
    row = told()["samples"]
    assert (row["files"], row["wanted"]) == (3, 2 * len(samples))
    assert row["jobs_left"] == len(samples) - 1
    assert row["seconds_left"] == pytest.approx(15 * (len(samples) - 1))
    assert told()["total"]["seconds_left"] is None  # of other steps nothing is known


def test_a_finished_preset_has_no_time_left_and_the_text_says_the_same(layout: Layout) -> None:
    for number, job in enumerate(all_jobs(layout)):
        finish(layout, job, number)
    rows, text = told(), ppap("status", SMOKE).stdout
    for name, row in rows.items():
        assert row["files"] == row["wanted"] and row["jobs_left"] == row["seconds_left"] == 0
        assert re.search(rf"^{name} +{row['files']} of {row['wanted']} +0 +0:00:00$", text, re.M)


def test_a_damaged_benchmark_file_is_named(layout: Layout) -> None:
    job = next(iter(all_jobs(layout)))
    finish(layout, job, 1)
    layout.benchmark(job.name(layout)).write_text("x\n")
    done = ppap("status", SMOKE, check=False)
    assert done.returncode == 2 and "not a benchmark file of Snakemake" in done.stderr
