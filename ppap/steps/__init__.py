"""The steps of the workflow, in the order of the data's way, and the jobs of a preset."""

from __future__ import annotations

from collections.abc import Iterator

from ppap.graph.layout import Layout
from ppap.graph.step import Step
from ppap.steps.download import Download
from ppap.steps.features import Features
from ppap.steps.figure import Figure
from ppap.steps.generate import Generate
from ppap.steps.label import Label
from ppap.steps.metrics import Metrics
from ppap.steps.pretrain import Pretrain
from ppap.steps.reference_features import ReferenceFeatures
from ppap.steps.sample import Sample
from ppap.steps.table import Table
from ppap.steps.targets import Targets
from ppap.steps.train_expert import TrainExpert
from ppap.steps.upsample_clean import UpsampleClean
from ppap.steps.upsample_samples import UpsampleSamples
from ppap.steps.warm_start import WarmStart

STEPS: tuple[type[Step], ...] = (
    *(Download, Pretrain, Generate, UpsampleClean, Label, Targets, WarmStart, TrainExpert, Sample),
    *(UpsampleSamples, ReferenceFeatures, Features, Metrics, Table, Figure),
)


def all_jobs(layout: Layout) -> Iterator[Step]:
    """Every job of the preset, each after the ones that it waits for."""
    for step in STEPS:
        yield from step.jobs(layout)
