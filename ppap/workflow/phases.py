"""Phases of the workflow: the jobs that make one or more folders of results, which are one stage under DVC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ppap.workflow.keys import values
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs

PHASES = {
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

_PHASE_OF = {folder: phase for phase, folders in PHASES.items() for folder in folders}


def phase_of(job: Step, layout: Layout) -> str:
    """The phase that a job belongs to."""
    return _PHASE_OF[job.outputs(layout)[0].relative_to(layout.root).parts[0]]


def targets(layout: Layout) -> dict[str, list[str]]:
    """The files that each phase makes."""
    return {
        phase: [str(path) for job in jobs for path in job.outputs(layout)]
        for phase, jobs in by_phase(layout).items()
    }


def by_phase(layout: Layout) -> dict[str, list[Step]]:
    """The jobs of each phase."""
    found: dict[str, list[Step]] = {phase: [] for phase in PHASES}
    for job in all_jobs(layout):
        found[phase_of(job, layout)].append(job)
    return found


def dependencies(layout: Layout) -> dict[str, dict[str, Any]]:
    """What each phase depends on beside its files: the keys that its jobs read, and which jobs there are."""
    return {phase: _dependencies(layout, jobs) for phase, jobs in by_phase(layout).items()}


def _dependencies(layout: Layout, jobs: Iterable[Step]) -> dict[str, Any]:
    keys = (key for job in jobs for key in job.keys(layout.preset))
    names = sorted(f"{job.rule()} {' '.join(job.arguments())}".strip() for job in jobs)
    return {"keys": values(layout.preset, keys), "jobs": names}


def write_phases(layout: Layout) -> None:
    """Write what each phase depends on, for DVC: results/PRESET/phases/PHASE.json."""
    from ppap.utils import files  # needs torch, which the workflow's parsing does without

    for phase, found in dependencies(layout).items():
        files.write_json(layout.phase(phase), found, sort_keys=True)
