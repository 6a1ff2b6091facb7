"""Facts of each kind of data set. How one is read is in `ppap.data.datasets` and `ppap.data.streams`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ppap.utils.registry import Registry
from ppap.utils.settings import CLASSIFICATION


@dataclass(frozen=True)
class DatasetKind:
    """Facts of a kind of data set.

    `streamed` images are read as they are needed, and only teach experts; others are held in memory, so networks
    are trained and samples judged with them too. `downloaded` ones are a file that `ppap download` makes. `key` is
    the key of a preset that belongs to this kind alone. `sizes` are what keys must say where anything looks at
    the images. `reads` are the keys, beside `kind`, that decide what images and labels are read (of a downloaded
    one: from its file, which `key` decides). `truths` are the tasks that it knows what is true for.
    """

    streamed: bool = False
    downloaded: bool = False
    key: str | None = None
    channels: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    truths: tuple[str, ...] = (CLASSIFICATION,)


DATASETS: Registry[DatasetKind] = Registry(
    "data set",
    {
        # UCI digits inside scikit-learn
        "digits": DatasetKind(
            sizes={"image_size": 8, "channels": 1, "classes": 10}, reads=("holdout",)
        ),
        # a folder of the user's, too large for memory, one folder in it a class
        "image_folder": DatasetKind(
            streamed=True,
            key="path",
            channels=3,
            reads=("path", "image_size", "classes", "mirror"),
        ),
        # solids on a floor, drawn by ppap.data.shapes
        "shapes": DatasetKind(
            key="pictures",
            channels=3,
            sizes={"classes": 4, "segments": 5},
            reads=("pictures", "image_size", "holdout"),
            truths=(CLASSIFICATION, "depth", "segmentation"),
        ),
        # no real images: nothing is taught by labels or compared with them
        "none": DatasetKind(streamed=True, channels=3, truths=()),
        # one of torch-fidelity's
        "registered": DatasetKind(
            downloaded=True,
            key="name",
            channels=3,
            reads=("image_size", "channels", "classes", "holdout"),
        ),
    },
)
