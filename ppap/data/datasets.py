"""Data sets of real images, each kind in one class, and what is true of their images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ppap.data import shapes
from ppap.data.image_folder import LabelledFiles, list_files
from ppap.utils import tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.registry import Registry, kind_of
from ppap.utils.seeds import Stream, mix
from ppap.utils.settings import CLASSIFICATION, DATASET, DEPTH, EMBEDDING, SEGMENTATION, LocalPath, Section
from ppap.utils.tensor_spec import IMAGES, LABELS, MU, SIGMA, Spec, TensorSpec

Split = Literal["train", "holdout"]
Images = NDArray[np.uint8]
Truths = dict[str, NDArray[Any]]
"""The truths of images, by the names of tasks: (N, ...) each."""
INCEPTION_FEATURES = 2048


class DatasetKind:
    """One kind of data set: facts about it, and how it is read, as a whole (`read`) or by its files (`listed`)."""

    whole: ClassVar[bool] = True
    "All images can be held in memory: anything may be trained on them, compared with them, or guided to them."
    downloaded: ClassVar[bool] = False
    "The data set, where it is read as a whole, is a file that `ppap download` makes."
    download_reads: ClassVar[tuple[str, ...]] = ()
    "The keys that decide what is in that file."
    listed_reads: ClassVar[tuple[str, ...]] = ()
    "The keys, beside `kind`, that experts read which learn from its files, where nothing needs the whole; none: they cannot."
    key: ClassVar[str | None] = None
    "The key of `dataset` that belongs to this kind alone."
    channels: ClassVar[int | None] = None
    sizes: ClassVar[Mapping[str, int]] = {}
    "The values that keys must have where anything looks at the images."
    reads: ClassVar[tuple[str, ...]] = ()
    "The keys, beside `kind`, that decide what images and labels are read as a whole (of a downloaded one: from its file)."
    truths: ClassVar[tuple[str, ...]] = (CLASSIFICATION,)
    "The tasks that it knows what is true for."

    def read(self, data: DatasetConfig, file: Path | None) -> tuple[Images, Truths]:
        """Read all images, uint8 (N, H, W, C), of a downloaded data set from its file."""
        raise ConfigError(f"dataset.kind: images of kind {data.kind} are not read as a whole")

    def listed(self, data: DatasetConfig) -> LabelledFiles:
        """List the files of pictures, and their classes; DataError if they are not there, or of other classes."""
        raise ConfigError(f"dataset.kind: images of kind {data.kind} are no files")


class Digits(DatasetKind):
    """UCI handwritten digits (Alpaydin & Kaynak 1998) inside scikit-learn: 1,797 grey images, 8x8, values 0 to 16."""

    sizes: ClassVar = {"image_size": 8, "channels": 1, "classes": 10}
    reads = ("holdout",)

    def read(self, data: DatasetConfig, file: Path | None) -> tuple[Images, Truths]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        return images, {CLASSIFICATION: digits.target.astype(np.int64)}


class Shapes(DatasetKind):
    """Solids on a floor, drawn by `ppap.data.shapes`, always the same ones."""

    key = "pictures"
    channels = 3
    sizes: ClassVar = {"classes": 4, "segments": 5}
    reads = ("pictures", "image_size", "holdout")
    truths = (CLASSIFICATION, DEPTH, SEGMENTATION, EMBEDDING)

    def read(self, data: DatasetConfig, file: Path | None) -> tuple[Images, Truths]:
        assert data.pictures is not None
        drawn = shapes.draw(data.pictures, data.image_size, seed=0)
        return drawn.images, {
            CLASSIFICATION: drawn.classes.numpy(),
            DEPTH: drawn.depth.numpy(),
            SEGMENTATION: drawn.labels.numpy(),
            EMBEDDING: shapes.arrangements(drawn.labels).numpy(),
        }


class NoImages(DatasetKind):
    """No real images: nothing is taught by labels or compared with them."""

    whole = False
    channels = 3
    truths = ()


class _Stored(DatasetKind):
    """Images that `ppap.data.realdata` brings into one file."""

    downloaded = True
    channels = 3
    reads = ("image_size", "channels", "classes", "holdout")

    def read(self, data: DatasetConfig, file: Path | None) -> tuple[Images, Truths]:
        assert file is not None
        spec = {
            IMAGES: TensorSpec(("uint8",), ("images", "height", "width", "channels")),
            LABELS: TensorSpec(("int64",), ("images",), below=1 << 62, optional=True),
        }
        tensors = tensor_spec.read(file, spec, {"model": DATASET})
        if LABELS not in tensors:
            raise ConfigError(f"dataset.{self.key}: '{data.name or data.path}' has no labels to learn from")
        images, labels = tensors[IMAGES], tensors[LABELS]
        wanted = (data.image_size, data.image_size, data.channels)
        if tuple(images.shape[1:]) != wanted:
            raise ConfigError(f"dataset: its images are {tuple(images.shape[1:])}, not {wanted}")
        if int(labels.max()) >= data.classes:
            raise ConfigError(f"dataset.classes: {data.classes}, but there is a class {labels.max()}")
        return images.numpy(), {CLASSIFICATION: labels.numpy()}


class Registered(_Stored):
    """One of torch-fidelity's."""

    key = "name"
    download_reads = ("name",)


class ImageFolder(_Stored):
    """A folder of the user's, one folder in it a class: read as a whole, or where only experts learn from it, as they do."""

    key = "path"
    download_reads = ("path", "image_size", "classes")
    listed_reads = ("image_size", "classes")

    def listed(self, data: DatasetConfig) -> LabelledFiles:
        try:
            return list_files(Path(data.path or ""), data.classes)
        except DataError as error:
            raise DataError(f"dataset.path: {error}") from None


DATASETS: Registry[DatasetKind] = Registry(
    "data set",
    {
        "digits": Digits(),
        "image_folder": ImageFolder(),
        "shapes": Shapes(),
        "none": NoImages(),
        "registered": Registered(),
    },
)


class DatasetConfig(Section):
    """Real images: they train what the preset trains itself and the supervised rows, and are the reference of FID.

    Digits are 8 pixels a side, grey, of 10 classes, if anything is trained on them or judged by them. Shapes are in
    colour, of any size, of 4 classes (disc, square, triangle, ring) and 5 segments (the same, after the background).
    An `image_folder` is read once into one file, each picture resized by its shorter side and cropped to the centre,
    and everything may be trained on it. If only the rows that labels teach need it, as with ImageNet, experts read its
    pictures as they learn, cropped at random as ADM does, and `holdout` holds none back (`experts.held_out` does).
    Pictures are read as a viewer shows them: turned as EXIF says, on white where transparent, the first of several
    frames; links are followed, hidden files are left out, and `ppap config check --files` refuses by name what cannot be
    read. It decodes every picture until the jobs that learn from them are done, on all cores: about an hour of one core
    for ImageNet's.
    """

    kind: Annotated[str, *kind_of(DATASETS)] = Field(
        "digits",
        description="`digits`: UCI handwritten digits, inside scikit-learn; `shapes`: one to three solids on a floor, drawn "
        "here, whose class (of the largest), depth and labels are known exactly; `image_folder`: one folder a class, as "
        "in torchvision, classes in the order of their folders' names (for ImageNet: sorted synsets); `registered`: a "
        "data set that torch-fidelity knows; `none`: no real images, where nothing is taught by labels or compared "
        "with them",
    )
    path: LocalPath | None = Field(
        None,
        description="of `image_folder`: the folder. Its files are not watched: after a change, `snakemake --forcerun download`",
    )
    name: str | None = Field(None, description="of `registered`: the data set's name, such as `cifar10-train`")
    pictures: Annotated[int, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="of `shapes`: how many are drawn, held-out ones included"
    )
    image_size: Annotated[int, Field(gt=0, le=4096)] = Field(8, description="pixels a side")
    channels: Literal[1, 3] = Field(1, description="1 grey, 3 colour (every kind but digits)")
    classes: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        10, description="number of classes: of a classifier, and of `sampling.classes`"
    )
    segments: Annotated[int, Field(gt=1, le=10_000)] | None = Field(
        None, description="number of labels of a label map, background (0) included; the task `segmentation` needs it"
    )
    holdout: Annotated[float, Field(ge=0.02, le=0.9)] = Field(
        0.2, description="share never trained on; off-the-shelf accuracy is measured there"
    )
    mirror: bool = Field(False, description="a mirror image keeps its class: teachers label both, experts see both")
    class_names: tuple[str, ...] = Field(
        (),
        description="for figures, one for each class; left out: what the guide's library calls them, or the "
        "names of an image folder's classes, else numbers",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image as networks see it: channels, height, width."""
        return self.channels, self.image_size, self.image_size

    @property
    def facts(self) -> DatasetKind:
        """The kind of the data set, with what holds for all data sets of that kind."""
        return DATASETS.get(self.kind)

    @model_validator(mode="after")
    def kind_is_complete(self) -> DatasetConfig:
        for key, kind in {DATASETS.get(kind).key: kind for kind in DATASETS}.items():
            if key and (self.facts.key == key) != (getattr(self, key) is not None):
                raise ValueError(f"`{key}` goes with kind: {kind}, only, and belongs to it")
        wanted = self.facts.channels or self.channels
        if self.channels != wanted:
            raise ValueError(f"channels: images of kind {self.kind} have {wanted}, not {self.channels}")
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(f"class_names: {len(self.class_names)} names for {self.classes} classes")
        return self


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


class RealImages(NamedTuple):
    """images: uint8 (N, H, W, C); truths: what is true of them, by the names of tasks, (N, ...) each."""

    images: Images
    truths: dict[str, Tensor]

    @property
    def classes(self) -> Tensor:
        """The classes of the images, int64 (N,)."""
        return self.truths[CLASSIFICATION]

    def first(self, count: int) -> RealImages:
        """Take the first `count` of them."""
        return RealImages(self.images[:count], {n: t[:count] for n, t in self.truths.items()})


def load(data: DatasetConfig, split: Split, file: Path | None = None) -> RealImages:
    """Load the training or the held-out part of a data set, as `load_all` does."""
    return load_all(data, file)[split]


def load_all(data: DatasetConfig, file: Path | None = None) -> dict[Split, RealImages]:
    """Load both parts of a data set that fits into memory; which is which never changes.

    `file` is that of a downloaded one. ConfigError if it is too large for memory, has no labels, or not the image
    size and classes that `data` says.
    """
    images, truths = data.facts.read(data, file)
    order = np.random.default_rng(mix(Stream.SPLIT)).permutation(len(images))
    held = round(data.holdout * len(images))

    def part(chosen: NDArray[Any]) -> RealImages:
        return RealImages(images[chosen], {task: torch.from_numpy(truth[chosen]) for task, truth in truths.items()})

    return {"train": part(order[held:]), "holdout": part(order[:held])}
