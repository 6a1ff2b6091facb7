"""Real images with labels, held in memory; `ppap.data.streams` has those that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.errors import ConfigError
from ppap.graph import artefacts
from ppap.graph.artefacts import IMAGES, LABELS
from ppap.graph.layout import Layout
from ppap.preset import DATASET
from ppap.seeds import Stream, mix
from ppap.storage import tensor_spec

Split = Literal["train", "holdout"]


class LabelledImages(NamedTuple):
    """images: uint8 (N, H, W, C); labels: int64 (N,)."""

    images: NDArray[np.uint8]
    labels: Tensor


def load(layout: Layout, split: Split) -> LabelledImages:
    """The training or the held-out part of a data set that fits into memory; which is which never changes.

    ConfigError if it is too large for that, has no labels, or not the preset's image size and classes.
    """
    data = layout.preset.dataset
    if data.facts.streamed:
        raise ConfigError(f"dataset.kind: images of kind {data.kind} are not read as a whole")
    images, labels = READERS[data.kind](layout)
    order = np.random.default_rng(mix(Stream.SPLIT)).permutation(len(images))
    held = round(data.holdout * len(images))
    chosen = order[held:] if split == "train" else order[:held]
    return LabelledImages(images[chosen], torch.from_numpy(labels[chosen]))


def to_tensor(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 (B, H, W, C) to float32 (B, C, H, W) in [-1, 1]."""
    tensor = torch.as_tensor(images).permute(0, 3, 1, 2).contiguous()
    return tensor.float() / 127.5 - 1


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """float (B, C, H, W) in [-1, 1] to uint8 (B, H, W, C); values beyond are clipped."""
    pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _registered(layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
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
    return images.numpy(), labels.numpy()


def _digits(layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UCI handwritten digits (Alpaydin & Kaynak 1998): 1,797 grey images, 8x8, values 0 to 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, data.target.astype(np.int64)


READERS: dict[str, Callable[[Layout], tuple[NDArray[np.uint8], NDArray[np.int64]]]] = {
    "digits": _digits,
    "registered": _registered,
}
