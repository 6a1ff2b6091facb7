"""Contents of the files that one step of the workflow writes and another reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppap.config.runs import Run
from ppap.data.image_files import check_statistics, dataset, reference_images
from ppap.utils import files
from ppap.utils.tensor_names import IMAGE, IMAGES, LABELS, MIRROR, MU, PICTURE, SIGMA, TARGET
from ppap.utils.tensor_spec import Spec, TensorSpec
from ppap.workflow.layout import Layout

# re-exported for modules that import them from here until they import them from where they are
__all__ = [
    "IMAGE",
    "IMAGES",
    "LABELS",
    "MIRROR",
    "MU",
    "PICTURE",
    "SIGMA",
    "TARGET",
    "check_statistics",
    "dataset",
    "reference_images",
]


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
