"""The step `reference_features`: the evaluator's answers on the real images that samples are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppap.config.preset import Preset
from ppap.data.datasets import reference_images
from ppap.data.loading import ImagesInMemory
from ppap.evaluation.features import features_of
from ppap.utils import files, tensor_spec
from ppap.utils.device import device_of
from ppap.utils.settings import REFERENCE
from ppap.utils.tensor_spec import IMAGES, MU, SIGMA
from ppap.workflow import evaluator, stored_images
from ppap.workflow.layout import Layout
from ppap.workflow.reads import data_keys, evaluator_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class ReferenceFeatures(Step):
    """Extract the features of real images, once for all samples."""

    message = "Extracting the features of the real images"
    resources = "features"

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls()]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.reference]

    def inputs(self, layout: Layout) -> list[Path]:
        return [*layout.evaluator, *layout.reference_images]

    def keys(self, preset: Preset) -> list[str]:
        own = [] if preset.evaluator.compared_with else [*data_keys(preset), "evaluator.compared"]
        return [*evaluator_keys(preset), *own]

    def run(self, layout: Layout) -> None:
        files.check_writable(layout.reference)
        preset, (images, statistics) = layout.preset, _reference(layout)
        answers = features_of(
            ImagesInMemory(images),
            evaluator.load_extractor(layout),
            preset.sampling.judged_at_once,
            device_of(preset.runtime),
        )
        files.write_tensors(layout.reference, answers | statistics, evaluator.identity(layout))


def _reference(layout: Layout) -> tuple[NDArray[np.uint8], dict[str, Tensor]]:
    """Read the images, and mean and covariance that came with them, if they are of the evaluator's features."""
    judge = layout.preset.evaluator
    if not judge.compared_with:
        return stored_images.real(layout, "train").images[: judge.most_compared], {}
    path = layout.model(REFERENCE)
    tensors = tensor_spec.read(path, reference_images(), {"model": REFERENCE})
    names = (MU, SIGMA) if judge.in_print else ()
    return tensors[IMAGES].numpy(), {name: tensors[name] for name in names if name in tensors}
