"""Files of others in a preset: any one of them, and the images that samples are compared with."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from ppap.data.dataset_kinds import DATASETS, DatasetKind
from ppap.utils.registry import kind_of
from ppap.utils.settings import FREE, Section


class Download(Section):
    """A file of somebody else's: `{url: ..., sha256: ..., file: ...}`. `ppap download` fetches it once, for all presets."""

    url: str = Field(
        min_length=1,
        description="`https://` (or `http://`); or the path or `file://` URL of a file, which is used in place",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{8,64}$",
        description="as its publisher prints it, or as many first digits as he prints (8 at least)",
    )
    file: str | None = Field(
        None,
        pattern=r"^[^/\\]+$",
        max_length=200,
        description="its name in `downloads/`, where two files need two names; left out: the end of the URL",
    )

    @property
    def local(self) -> Path | None:
        """The file itself where `url` is a path or file://; it is used in place."""
        if urlsplit(self.url).scheme == "file":
            return Path(unquote(urlsplit(self.url).path))
        return None if "://" in self.url else Path(self.url)

    @property
    def name(self) -> str:
        """Its name in downloads/: `file`, or what is safe of the last part of the URL."""
        last = unquote(urlsplit(self.url).path).rpartition("/")[2]
        return self.file or re.sub(r"[^\w.+=-]+", "_", last)[-80:].lstrip("._")

    @model_validator(mode="after")
    def has_a_place_and_a_name(self) -> Download:
        parts = urlsplit(self.url)
        if self.local is None and parts.scheme not in {"http", "https"}:
            raise ValueError(f"url '{self.url}' is neither https:// nor file:// nor a path")
        if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
            raise ValueError(f"url '{self.url}' is on another machine: write file:///PATH")
        if not self.name:
            raise ValueError(f"url '{self.url}' does not end in a file name: give `file`")
        if self.name.startswith(".") or not self.name.isprintable():
            raise ValueError(f"file '{self.name}' is not the name of a file that can be seen")
        return self


class DatasetConfig(Section):
    """Real images: they train what the preset trains itself and the supervised rows, and are the reference of FID.

    Digits are 8 pixels a side, grey, of 10 classes, if anything is trained on them or judged by them. Shapes are in
    colour, of any size, of 4 classes (disc, square, triangle, ring) and 5 segments (the same, after the background).
    Only experts learn from an `image_folder`; what a preset trains itself (`train`) needs one of the other kinds.
    """

    kind: Annotated[str, *kind_of(DATASETS)] = Field(
        "digits",
        description="`digits`: UCI handwritten digits, inside scikit-learn; `shapes`: one to three solids on a floor, drawn "
        "here, whose class (of the largest), depth and labels are known exactly; `image_folder`: one folder a class, as "
        "in torchvision, classes in the order of their folders' names (for ImageNet: sorted synsets); `registered`: a "
        "data set that torch-fidelity knows; `none`: no real images, where nothing is taught by labels or compared "
        "with them",
    )
    path: str | None = Field(
        None, json_schema_extra=FREE, description="of `image_folder`: the folder"
    )
    name: str | None = Field(
        None, description="of `registered`: the data set's name, such as `cifar10-train`"
    )
    pictures: Annotated[int, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="of `shapes`: how many are drawn, held-out ones included"
    )
    image_size: Annotated[int, Field(gt=0, le=4096)] = Field(8, description="pixels a side")
    channels: Literal[1, 3] = Field(1, description="1 grey, 3 colour (every kind but digits)")
    classes: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        10, description="number of classes: of a classifier, and of `sampling.classes`"
    )
    segments: Annotated[int, Field(gt=1, le=10_000)] | None = Field(
        None,
        description="number of labels of a label map, background (0) included; the task `segmentation` needs it",
    )
    holdout: Annotated[float, Field(ge=0.02, le=0.9)] = Field(
        0.2, description="share never trained on; off-the-shelf accuracy is measured there"
    )
    mirror: bool = Field(
        False, description="a mirror image keeps its class: teachers label both, experts see both"
    )
    class_names: tuple[str, ...] = Field(
        (),
        description="for figures, one for each class; left out: what the guide's library calls them, else numbers",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image as networks see it: channels, height, width."""
        return self.channels, self.image_size, self.image_size

    @property
    def facts(self) -> DatasetKind:
        """What holds for all data sets of its kind."""
        return DATASETS.get(self.kind)

    @model_validator(mode="after")
    def kind_is_complete(self) -> DatasetConfig:
        for key, kind in {DATASETS.get(kind).key: kind for kind in DATASETS}.items():
            if key and (self.facts.key == key) != (getattr(self, key) is not None):
                raise ValueError(f"`{key}` goes with kind: {kind}, only, and belongs to it")
        wanted = self.facts.channels or self.channels
        if self.channels != wanted:
            raise ValueError(
                f"channels: images of kind {self.kind} have {wanted}, not {self.channels}"
            )
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} names for {self.classes} classes"
            )
        return self


class ReferenceConfig(Section):
    """The images that samples are compared with, for FID, precision and recall: one of the three keys."""

    archive: Download | None = Field(
        None,
        description="an .npz of ADM's evaluator: `arr_0`; its own `mu` and `sigma` are used if it has them",
    )
    registered: str | None = Field(None, description="a data set that torch-fidelity knows by name")
    folder: str | None = Field(None, description="a folder of images, of any depth")

    @model_validator(mode="after")
    def one_is_given(self) -> ReferenceConfig:
        if sum(v is not None for v in (self.archive, self.registered, self.folder)) != 1:
            raise ValueError("give one of archive, registered and folder")
        return self
