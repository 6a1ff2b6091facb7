"""Real images, and files that are downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from ppap.data.dataset_kinds import DATASETS, DatasetKind
from ppap.utils.registry import kind_of
from ppap.utils.settings import Section


class Download(Section):
    """A file of somebody else's. `ppap download` downloads it once, for all presets, and checks it."""

    url: str = Field(
        min_length=1,
        description="where the publisher keeps it; or the path of a file, which is used in place",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{8,64}$",
        description="if the publisher prints one, or as many first digits as he prints",
    )
    file: str | None = Field(
        None,
        pattern=r"^[^/\\]+$",
        max_length=200,
        description="its name in downloads/; the last part of the URL if left out",
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
    """Real images: they train what the preset trains itself and the supervised rows."""

    kind: Annotated[str, *kind_of(DATASETS)] = Field(
        "digits",
        description="UCI digits inside scikit-learn, solids drawn here, a folder, or one of torch-fidelity's",
    )
    path: str | None = Field(None, description="image_folder: the folder, one folder in it a class")
    name: str | None = Field(None, description="registered: the data set's name in torch-fidelity")
    pictures: Annotated[int, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="shapes: how many are drawn, held-out ones included"
    )
    image_size: Annotated[int, Field(gt=0, le=4096)] = Field(8, description="pixels a side")
    channels: Literal[1, 3] = Field(1, description="1 grey, 3 colour")
    classes: Annotated[int, Field(gt=0, le=1_000_000)] = 10
    segments: Annotated[int, Field(gt=1, le=10_000)] | None = Field(
        None, description="labels of a label map, background included; segmentation needs it"
    )
    holdout: Annotated[float, Field(ge=0.02, le=0.9)] = Field(
        0.2, description="share never trained on"
    )
    mirror: bool = Field(False, description="mirroring an image keeps its class")
    class_names: tuple[str, ...] = Field((), description="for figures; empty: numbers")

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
    """What samples are compared with, for FID, precision and recall: one of the three."""

    archive: Download | None = Field(
        None, description="an .npz of ADM's evaluator: arr_0, and mu and sigma if it has them"
    )
    registered: str | None = Field(None, description="a data set that torch-fidelity knows by name")
    folder: str | None = Field(None, description="a folder of images, of any depth")

    @model_validator(mode="after")
    def one_is_given(self) -> ReferenceConfig:
        if sum(v is not None for v in (self.archive, self.registered, self.folder)) != 1:
            raise ValueError("give one of archive, registered and folder")
        return self
