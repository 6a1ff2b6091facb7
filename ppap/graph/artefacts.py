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

from ppap.errors import DataError
from ppap.graph.layout import Layout
from ppap.preset import Preset
from ppap.preset.runs import Run
from ppap.seeds import balanced_classes
from ppap.storage import files
from ppap.storage.tensor_spec import REMEDY, Spec, TensorSpec

IMAGES, LABELS, MU, SIGMA = "images", "labels", "mu", "sigma"
FEATURES, LOGITS, PREDICTED, TARGET = "features", "logits", "predicted", "target"
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


def labels(count: int, classes: int | str, mirrored: bool) -> Spec:
    """A teacher's answers on some images, and on their mirror images where these are valid."""
    answers = TensorSpec(("float16", "float32"), (count, classes))
    return {IMAGE: answers} | ({MIRROR: answers} if mirrored else {})


def targets(preset: Preset, count: int) -> Spec:
    """The classes that the samples of a shard are guided to."""
    return {TARGET: TensorSpec(("int64",), (count,), below=preset.dataset.classes)}


def check_statistics(path: Path, tensors: dict[str, Tensor], remedy: str = REMEDY) -> None:
    """DataError unless mean and covariance are there both or neither, and a covariance is symmetric."""
    if (MU in tensors) != (SIGMA in tensors):
        raise DataError(f"{path}: has one of {MU} and {SIGMA}, which belong together; {remedy}")
    if SIGMA in tensors and not torch.allclose(tensors[SIGMA], tensors[SIGMA].T, rtol=1e-3):
        raise DataError(f"{path}: {SIGMA} is not symmetric, so not a covariance; {remedy}")


def target_classes(preset: Preset) -> Tensor:
    """The class each sample of a run is guided to, balanced within each sampling seed: (total,)."""
    sampling = preset.sampling
    return torch.cat(
        [balanced_classes(s, sampling.samples, preset.target_classes) for s in sampling.seeds]
    )


def check_targets(preset: Preset, path: Path, found: Tensor, first: int = 0) -> None:
    """DataError unless these are the classes that the preset's samples from `first` on are guided to."""
    wanted = target_classes(preset)[first : first + len(found)]
    different = (found != wanted).nonzero().flatten()
    if len(different):
        i = int(different[0])
        raise DataError(
            f"{path}: sample {first + i} was guided to class {int(found[i])}, in the preset it is "
            f"{int(wanted[i])}; {REMEDY}"
        )


# What tells a file from others of its kind stands in its metadata.


def samples_identity(run: Run, shard: int, first: NDArray[Any]) -> dict[str, str]:
    """Of the target classes of a shard, whose first image is given."""
    return {"run": " ".join(run), "shard": str(shard), "images": digest(first)}


def labels_identity(layout: Layout, guide: str, firsts: Iterable[NDArray[Any]]) -> dict[str, str]:
    """Of a guide's answers on shards, whose first images are given."""
    weights = files.sha256(layout.model(guide))
    return {"guide_sha256": weights, "images": " ".join(map(digest, firsts))}


def digest(image: NDArray[Any]) -> str:
    """A short hash of an image. No two shards begin with the same one."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:12]
