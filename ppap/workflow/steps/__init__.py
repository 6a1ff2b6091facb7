"""The steps of the workflow, in the order of the data's way, and the jobs of a preset."""

from __future__ import annotations

from collections.abc import Iterator

from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps.download import Download
from ppap.workflow.steps.estimate import Estimate
from ppap.workflow.steps.features import Features
from ppap.workflow.steps.figure import Figure
from ppap.workflow.steps.generate import Generate
from ppap.workflow.steps.label import Label
from ppap.workflow.steps.metrics import Metrics
from ppap.workflow.steps.pretrain import Pretrain
from ppap.workflow.steps.reference_features import ReferenceFeatures
from ppap.workflow.steps.sample import Sample
from ppap.workflow.steps.study import Study
from ppap.workflow.steps.study_figure import StudyFigure
from ppap.workflow.steps.table import Table
from ppap.workflow.steps.targets import Targets
from ppap.workflow.steps.train_expert import TrainExpert
from ppap.workflow.steps.upsample_clean import UpsampleClean
from ppap.workflow.steps.upsample_samples import UpsampleSamples
from ppap.workflow.steps.warm_start import WarmStart

STEPS: tuple[type[Step], ...] = (
    *(Download, Pretrain, Generate, UpsampleClean, Estimate, Label, Targets, WarmStart, TrainExpert, Sample),
    *(UpsampleSamples, ReferenceFeatures, Features, Metrics, Table, Figure, Study, StudyFigure),
)


def all_jobs(layout: Layout) -> Iterator[Step]:
    """Yield every job of the preset's own run, each after the ones that it waits for."""
    for step in STEPS:
        yield from step.jobs(layout)


def runs_of(step: type[Step], layout: Layout) -> list[Layout]:
    """List the runs of a preset in which a step has jobs: all replicates, or the preset's own run alone."""
    return [run for run in layout.runs if not (step.once and run.preset.is_replicate)]


def jobs_of_all_runs(layout: Layout) -> Iterator[tuple[Layout, Step]]:
    """Yield every job of all replicates with its run's layout, each after the ones that it waits for."""
    for step in STEPS:
        for run in runs_of(step, layout):
            yield from ((run, job) for job in step.jobs(run))
