"""Contents of the files that one step of the workflow writes and another reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config.runs import Run
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY, Spec, TensorSpec
from ppap.workflow.layout import Layout

IMAGES, LABELS, MU, SIGMA = "images", "labels", "mu", "sigma"
FEATURES, LOGITS, PREDICTED, TARGET = "features", "logits", "predicted", "target"
PICTURE = "picture"
IMAGE, MIRROR = "image", "mirror"
INCEPTION_FEATURES = 2048
_WHOLE = 1 << 62


def dataset() -> Spec:
    """Real images that were downloaded, of any size, and their classes if they have any."""
    return {
        IMAGES: TensorSpec(("uint8",), ("images", "height", "width", "channels")),
        LABELS: TensorSpec(("int64",), ("images",), below=_WHOLE, optional=True),
    }


def reference_images() -> Spec:
    """Real images to compare with, and what their publisher prints of their Inception features."""
    width = INCEPTION_FEATURES
    return {
        IMAGES: TensorSpec(("uint8",), ("images", "height", "width", 3)),
        MU: TensorSpec(("float64", "float32"), (width,), optional=True),
        SIGMA: TensorSpec(("float64", "float32"), (width, width), optional=True),
    }


def labels(count: int, shape: tuple[int | str, ...], mirrored: bool) -> Spec:
    """A teacher's answers, each of this shape, on some images, and on their mirror images where these are valid."""
    answers = TensorSpec(("float16", "float32"), (count, *shape))
    return {IMAGE: answers} | ({MIRROR: answers} if mirrored else {})


def targets(count: int) -> Spec:
    """The numbers of the targets that samples are guided to."""
    return {TARGET: TensorSpec(("int64",), (count,))}


def shown_targets(shape: tuple[int, ...]) -> Spec:
    """What pictures show, each target of this shape, and the pictures."""
    return {
        TARGET: TensorSpec(("float32", "int64"), ("targets", *shape)),
        PICTURE: TensorSpec(("uint8",), ("targets", "height", "width", "channels")),
    }


def check_statistics(path: Path, tensors: dict[str, Tensor], remedy: str = REMEDY) -> None:
    """DataError unless mean and covariance are there both or neither, and a covariance is symmetric."""
    if (MU in tensors) != (SIGMA in tensors):
        raise DataError(f"{path}: has one of {MU} and {SIGMA}, which belong together; {remedy}")
    if SIGMA in tensors and not torch.allclose(tensors[SIGMA], tensors[SIGMA].T, rtol=1e-3):
        raise DataError(f"{path}: {SIGMA} is not symmetric, so not a covariance; {remedy}")


# What tells a file from others of its kind stands in its metadata.


def samples_identity(run: Run, shard: int, first: NDArray[Any]) -> dict[str, str]:
    """Of the targets of a shard, whose first image is given."""
    return {"run": " ".join(run), "shard": str(shard), "images": digest(first)}


def labels_identity(layout: Layout, guide: str, firsts: Iterable[NDArray[Any]]) -> dict[str, str]:
    """Of a guide's answers on shards, whose first images are given."""
    weights = files.sha256(layout.model(guide))
    return {"guide_sha256": weights, "images": " ".join(map(digest, firsts))}


def digest(image: NDArray[Any]) -> str:
    """A short hash of an image. No two shards begin with the same one."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:12]
