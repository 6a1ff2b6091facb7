"""Contents of the files that one step of the workflow writes and another reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppap.config.runs import Run
from ppap.data.realdata import IMAGES as IMAGES
from ppap.data.realdata import INCEPTION_FEATURES as INCEPTION_FEATURES
from ppap.data.realdata import MU as MU
from ppap.data.realdata import SIGMA as SIGMA
from ppap.data.realdata import check_statistics as check_statistics
from ppap.data.realdata import reference_spec
from ppap.data.shards import IMAGE as IMAGE
from ppap.data.shards import MIRROR as MIRROR
from ppap.utils import files
from ppap.utils.tensor_spec import Spec, TensorSpec
from ppap.workflow.layout import Layout

FEATURES, LOGITS, PREDICTED, TARGET = "features", "logits", "predicted", "target"
PICTURE = "picture"
reference_images = reference_spec


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
