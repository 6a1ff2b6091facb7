"""Stages of the workflow: the jobs that make one or more folders of results, which are one stage under DVC."""

from __future__ import annotations

from typing import Any

from ppap.utils import files
from ppap.workflow.keys import values
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs

STAGES = {
    "models": ("models",),
    "judges": ("judges",),
    "clean": ("clean",),
    "labels": ("labels",),
    "experts": ("experts",),
    "samples": ("samples",),
    "evaluation": ("features", "archives", "metrics"),
    "tables": ("tables", "figures", "pdf"),
}
"""Their folders, in the order in which they follow one another."""

_STAGE_OF = {folder: stage for stage, folders in STAGES.items() for folder in folders}


def stage_of(job: Step, layout: Layout) -> str:
    """Return the stage that a job belongs to."""
    return _STAGE_OF[job.outputs(layout)[0].relative_to(layout.root).parts[0]]


def by_stage(layout: Layout) -> dict[str, list[Step]]:
    """Sort the jobs into their stages."""
    sorted_jobs: dict[str, list[Step]] = {stage: [] for stage in STAGES}
    for job in all_jobs(layout):
        sorted_jobs[stage_of(job, layout)].append(job)
    return sorted_jobs


def targets(layout: Layout) -> dict[str, list[str]]:
    """List the files that each stage makes."""
    return {
        stage: [str(path) for job in jobs for path in job.outputs(layout)] for stage, jobs in by_stage(layout).items()
    }


def dependencies(layout: Layout) -> dict[str, dict[str, Any]]:
    """List what each stage depends on beside its files: the keys that its jobs read, and which jobs there are."""
    return {stage: _dependencies(layout, jobs) for stage, jobs in by_stage(layout).items()}


def write_stages(layout: Layout) -> None:
    """Write what each stage depends on, for DVC: results/PRESET/stages/STAGE.json."""
    for stage, depends in dependencies(layout).items():
        files.write_json(layout.stage(stage), depends, sort_keys=True)


def _dependencies(layout: Layout, jobs: list[Step]) -> dict[str, Any]:
    keys = (key for job in jobs for key in job.keys(layout.preset))
    names = sorted(" ".join([job.rule(), *job.arguments()]) for job in jobs)
    return {"keys": values(layout.preset, keys), "jobs": names}
