"""Real images with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.errors import ConfigError
from ppap.graph import artefacts
from ppap.graph.artefacts import IMAGES, LABELS
from ppap.graph.layout import Layout
from ppap.preset import DATASET, DatasetConfig
from ppap.seeds import Stream, mix
from ppap.storage import tensor_spec

Split = Literal["train", "holdout"]


class LabelledImages(NamedTuple):
    """images: uint8 (N, H, W, C); labels: int64 (N,)."""

    images: NDArray[np.uint8]
    labels: Tensor


def load(layout: Layout, split: Split) -> LabelledImages:
    """The training or the held-out part of a data set that fits into memory; which is which never changes.

    ConfigError if it has no labels, or not the preset's image size and classes.
    """
    preset = layout.preset
    if preset.dataset.kind == "registered":
        images, labels = _registered(layout.model(DATASET), preset.dataset)
    elif preset.dataset.kind == "image_folder":
        raise ConfigError("dataset.kind: a folder of images is not read as a whole")
    else:
        images, labels = _digits()
    order = np.random.default_rng(mix(Stream.SPLIT)).permutation(len(images))
    held = round(preset.dataset.holdout * len(images))
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


def _registered(path: Path, preset: DatasetConfig) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    tensors = tensor_spec.read(path, artefacts.dataset(), {"model": DATASET})
    if LABELS not in tensors:
        raise ConfigError(f"dataset.name: '{preset.name}' has no labels to learn from")
    images, labels = tensors[IMAGES], tensors[LABELS]
    wanted = (preset.image_size, preset.image_size, preset.channels)
    if tuple(images.shape[1:]) != wanted:
        raise ConfigError(f"dataset: its images are {tuple(images.shape[1:])}, not {wanted}")
    if int(labels.max()) >= preset.classes:
        raise ConfigError(f"dataset.classes: {preset.classes}, but there is a class {labels.max()}")
    return images.numpy(), labels.numpy()


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UCI handwritten digits (Alpaydin & Kaynak 1998): 1,797 grey images, 8x8, values 0 to 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, data.target.astype(np.int64)
