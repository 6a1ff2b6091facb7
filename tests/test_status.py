"""`ppap status`: current files of files wanted, stage by stage, and the time that is left.

That it agrees with `snakemake -n` where keys have changed: tests/test_workflow.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ppap.config import reading as presets
from ppap.workflow.layout import Layout
from ppap.workflow.stages import by_stage
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from tests.conftest import ROOT, SMOKE, ppap


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The smoke preset in a folder without results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(
        f"module ppap:\n    snakefile: '{ROOT}/workflow/Snakefile'\n    config: config\nuse rule * from ppap\n"
    )
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
    samples = [job for job in jobs if job.rule() == "sample"]
    finish(layout, samples[0], 10)
    finish(layout, samples[1], 20)
    samples[1].outputs(layout)[0].unlink()  # one of its two files: the job is to be done again
    rows = told()
    assert rows["total"] == {
        "stage": "total", "files": 0, "wanted": sum(len(job.outputs(layout)) for job in jobs), "stale": 3,
        "jobs_left": len(jobs), "seconds_left": None,  # of other steps nothing is known
    }  # fmt: skip
    row = rows["samples"]
    # what they are made of is missing, so both are to be done again
    assert (row["files"], row["stale"], row["wanted"]) == (0, 3, 2 * len(samples))
    assert row["jobs_left"] == len(samples)
    assert row["seconds_left"] == pytest.approx(15 * len(samples))


def test_a_finished_preset_has_no_time_left(layout: Layout) -> None:
    """Its text has a line for each stage, as the JSON has."""
    for number, job in enumerate(all_jobs(layout)):
        finish(layout, job, number)
    text = ppap("status", SMOKE).stdout
    stages = {stage: [job for _, job in jobs] for stage, jobs in by_stage(layout).items() if jobs}
    for name, jobs in (stages | {"total": list(all_jobs(layout))}).items():
        files = sum(len(job.outputs(layout)) for job in jobs)
        assert re.search(rf"^{name} +{files} of {files} +0 +0 +0:00:00$", text, re.M), name


def test_without_a_workflow_there_it_says_what_snakemake_says(layout: Layout) -> None:
    Path("Snakefile").unlink()
    done = ppap("status", SMOKE, check=False)
    assert done.returncode == 2 and "No Snakefile found" in done.stderr


def test_a_damaged_benchmark_file_is_named(layout: Layout) -> None:
    job = next(iter(all_jobs(layout)))
    finish(layout, job, 1)
    layout.benchmark(job.name(layout)).write_text("x\n")
    done = ppap("status", SMOKE, check=False)
    assert done.returncode == 2 and "not a benchmark file of Snakemake" in done.stderr
