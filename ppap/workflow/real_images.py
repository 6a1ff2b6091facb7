"""The preset's real images, read from where the workflow keeps them."""

from __future__ import annotations

from torch import Tensor

from ppap.config.preset import Preset
from ppap.data import datasets
from ppap.data.datasets import RealImages, Split
from ppap.data.images import to_tensor
from ppap.utils.settings import DATASET
from ppap.workflow.layout import Layout


def load(layout: Layout, split: Split) -> RealImages:
    """Load the training or the held-out part of the preset's data set (`datasets.load`)."""
    return datasets.load(layout.preset.dataset, split, layout.model(DATASET))


def truth_of(preset: Preset, data: RealImages, model: str) -> Tensor:
    """Return what is true of real images for the task of a guide, a judge or the evaluator: (N, ...)."""
    return preset.task_of(model).truth(to_tensor(data.images), data.truths, preset.task_name(model))
