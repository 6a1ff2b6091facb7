"""Files of others in a preset: any one of them, and the images that samples are compared with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from ppap.utils.settings import AsWritten, LocalPath, Section, placed


def _placed_if_local(url: str, info: ValidationInfo) -> str:
    return url if "://" in url else placed(url, info)


class Download(Section):
    """A file of somebody else's: `{url: ..., sha256: ..., file: ...}`. `ppap download` fetches it once, for all presets."""

    url: Annotated[str, AfterValidator(_placed_if_local), AsWritten] = Field(
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


class ReferenceConfig(Section):
    """The images that samples are compared with, for FID, precision and recall: one of the three keys."""

    archive: Download | None = Field(
        None, description="an .npz of ADM's evaluator: `arr_0`; its own `mu` and `sigma` are used if it has them"
    )
    registered: str | None = Field(None, description="a data set that torch-fidelity knows by name")
    folder: LocalPath | None = Field(None, description="a folder of images, of any depth")

    @model_validator(mode="after")
    def one_is_given(self) -> ReferenceConfig:
        if sum(v is not None for v in (self.archive, self.registered, self.folder)) != 1:
            raise ValueError("give one of archive, registered and folder")
        return self
