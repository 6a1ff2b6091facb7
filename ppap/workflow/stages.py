"""Stages of the workflow: the jobs that make one or more folders of results, which are one stage under DVC."""

from __future__ import annotations

from typing import Any

from ppap.utils import files
from ppap.workflow.keys import values
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import jobs_of_all_runs

STAGES = {
    "models": ("models",),
    "judges": ("judges",),
    "clean": ("clean",),
    "labels": ("labels",),
    "experts": ("experts",),
    "samples": ("samples",),
    "evaluation": ("features", "archives", "metrics"),
    "tables": ("tables", "figures", "pdf"),
    "replicates": ("replicates", "study"),
}
"""Their folders, in the order in which they follow one another."""

Placed = tuple[Layout, Step]
"""A job, and the layout of the run that it belongs to."""

_STAGE_OF = {folder: stage for stage, folders in STAGES.items() for folder in folders}


def stage_of(job: Step, run: Layout) -> str:
    """Return the stage that a job of a run belongs to; all of a replicate are one stage."""
    return _STAGE_OF[job.outputs(run)[0].relative_to(run.results / run.preset.original).parts[0]]


def by_stage(layout: Layout) -> dict[str, list[Placed]]:
    """Sort the jobs of all runs of a preset into their stages, each with its run's layout."""
    sorted_jobs: dict[str, list[Placed]] = {stage: [] for stage in STAGES}
    for run, job in jobs_of_all_runs(layout):
        sorted_jobs[stage_of(job, run)].append((run, job))
    return sorted_jobs


def targets(layout: Layout) -> dict[str, list[str]]:
    """List the files that each stage makes."""
    return {
        stage: [str(path) for run, job in jobs for path in job.outputs(run)] for stage, jobs in by_stage(layout).items()
    }


def dependencies(layout: Layout) -> dict[str, dict[str, Any]]:
    """List what each stage depends on beside its files: the keys that its jobs read, and which jobs there are.

    A replicate's own values follow from the preset's, and from its number, which its jobs' names begin with.
    """
    depends: dict[str, dict[str, Any]] = {}
    for stage, jobs in by_stage(layout).items():
        keys = (key for _, job in jobs for key in job.keys(layout.preset))
        depends[stage] = {"keys": values(layout.preset, keys), "jobs": sorted(_name(run, job) for run, job in jobs)}
    return depends


def write_stages(layout: Layout) -> None:
    """Write what each stage depends on, for DVC: results/PRESET/stages/STAGE.json."""
    for stage, depends in dependencies(layout).items():
        files.write_json(layout.stage(stage), depends, sort_keys=True)


def _name(run: Layout, job: Step) -> str:
    number = [str(run.preset.seed)] if run.preset.is_replicate else []
    return " ".join([*number, job.rule(), *job.arguments()])
