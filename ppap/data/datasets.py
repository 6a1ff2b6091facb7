"""Real images, and what is true of them, held in memory; `ppap.data.streams` has those that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config import Preset
from ppap.guides.tasks.kinds import CLASSIFICATION
from ppap.utils import tensor_spec
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import Stream, mix
from ppap.utils.settings import DATASET
from ppap.workflow import artefacts
from ppap.workflow.artefacts import IMAGES, LABELS
from ppap.workflow.layout import Layout

Split = Literal["train", "holdout"]
Read = tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]
"""Images, and what is true of them, by tasks."""


class RealImages(NamedTuple):
    """images: uint8 (N, H, W, C); truths: what is true of them, by tasks, (N, ...) each."""

    images: NDArray[np.uint8]
    truths: dict[str, Tensor]

    @property
    def classes(self) -> Tensor:
        """int64 (N,)."""
        return self.truths[CLASSIFICATION]

    def first(self, count: int) -> RealImages:
        return RealImages(self.images[:count], {n: t[:count] for n, t in self.truths.items()})

    def truth_of(self, preset: Preset, model: str) -> Tensor:
        """What is true of them for the task of a guide, a judge or the evaluator: (N, ...)."""
        from ppap.workflow.targets import task_of

        task = task_of(preset, model)
        seen = to_tensor(self.images) if preset.task(model).own_truth else torch.empty(0)
        return task.truth(seen, self.truths, preset.task_name(model))


def load(layout: Layout, split: Split) -> RealImages:
    """The training or the held-out part of a data set that fits into memory; which is which never changes.

    ConfigError if it is too large for that, has no labels, or not the preset's image size and classes.
    """
    data = layout.preset.dataset
    if data.facts.streamed:
        raise ConfigError(f"dataset.kind: images of kind {data.kind} are not read as a whole")
    images, truths = READERS[data.kind](layout)
    order = np.random.default_rng(mix(Stream.SPLIT)).permutation(len(images))
    held = round(data.holdout * len(images))
    chosen = order[held:] if split == "train" else order[:held]
    return RealImages(
        images[chosen], {task: torch.from_numpy(truth[chosen]) for task, truth in truths.items()}
    )


def to_tensor(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 (B, H, W, C) to float32 (B, C, H, W) in [-1, 1]."""
    tensor = torch.as_tensor(images).permute(0, 3, 1, 2).contiguous()
    return tensor.float() / 127.5 - 1


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """float (B, C, H, W) in [-1, 1] to uint8 (B, H, W, C); values beyond are clipped."""
    pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _registered(layout: Layout) -> Read:
    data = layout.preset.dataset
    tensors = tensor_spec.read(layout.model(DATASET), artefacts.dataset(), {"model": DATASET})
    if LABELS not in tensors:
        raise ConfigError(f"dataset.name: '{data.name}' has no labels to learn from")
    images, labels = tensors[IMAGES], tensors[LABELS]
    wanted = (data.image_size, data.image_size, data.channels)
    if tuple(images.shape[1:]) != wanted:
        raise ConfigError(f"dataset: its images are {tuple(images.shape[1:])}, not {wanted}")
    if int(labels.max()) >= data.classes:
        raise ConfigError(f"dataset.classes: {data.classes}, but there is a class {labels.max()}")
    return images.numpy(), {CLASSIFICATION: labels.numpy()}


def _digits(layout: Layout) -> Read:
    """UCI handwritten digits (Alpaydin & Kaynak 1998): 1,797 grey images, 8x8, values 0 to 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, {CLASSIFICATION: data.target.astype(np.int64)}


def _shapes(layout: Layout) -> Read:
    """Solids on a floor (`ppap.data.shapes`), always the same ones."""
    from ppap.data import shapes

    data = layout.preset.dataset
    assert data.pictures is not None
    drawn = shapes.draw(data.pictures, data.image_size, seed=0)
    truths = {
        CLASSIFICATION: drawn.classes.numpy(),
        "depth": drawn.depth.numpy(),
        "segmentation": drawn.labels.numpy(),
    }
    return drawn.images, truths


READERS: dict[str, Callable[[Layout], Read]] = {
    "digits": _digits,
    "registered": _registered,
    "shapes": _shapes,
}
