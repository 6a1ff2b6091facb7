"""Contents of the files of real images that are downloaded."""

from __future__ import annotations

from ppap.utils.tensor_names import IMAGES, LABELS, MU, SIGMA
from ppap.utils.tensor_spec import Spec, TensorSpec

INCEPTION_FEATURES = 2048
_WHOLE = 1 << 62


def dataset() -> Spec:
    """Describe real images of any size, and their classes if they have any."""
    return {
        IMAGES: TensorSpec(("uint8",), ("images", "height", "width", "channels")),
        LABELS: TensorSpec(("int64",), ("images",), below=_WHOLE, optional=True),
    }


def reference_images() -> Spec:
    """Describe real images to compare with, and mean and covariance of their Inception features, if published."""
    return {IMAGES: TensorSpec(("uint8",), ("images", "height", "width", 3)), **reference_statistics()}


def reference_statistics() -> Spec:
    """Describe that mean and covariance alone."""
    width = INCEPTION_FEATURES
    return {
        MU: TensorSpec(("float64", "float32"), (width,), optional=True),
        SIGMA: TensorSpec(("float64", "float32"), (width, width), optional=True),
    }
