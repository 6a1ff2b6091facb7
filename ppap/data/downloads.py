"""Files of others: downloaded once for all presets by pooch, checked, and remembered in a lock file."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pooch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ppap.data.settings import Download
from ppap.utils import files
from ppap.utils.errors import DataError

log = logging.getLogger(__name__)
_STALL = 60  # seconds without a byte after which a transfer is given up


class Known(BaseModel):
    """The lock file's entry of an address: the file's SHA-256, its size and its name in downloads/."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    file: str | None = None


_LOCK = TypeAdapter(dict[str, Known])


@dataclass(frozen=True)
class Downloads:
    """A folder of downloaded files, and the lock file that remembers what each was when it was first read.

    A file that lies in the folder is not downloaded, so one may be placed there by hand.
    """

    folder: Path
    lock: Path

    @contextlib.contextmanager
    def file(self, wanted: Download) -> Iterator[Path]:
        """Yield the path of a file, downloaded if it is not there, to a block that reads and checks it.

        Its SHA-256 must be the publisher's, as far as he prints it, and the remembered one. It is remembered when
        the block ends without an error: what cannot be read never is. DataError if it cannot be downloaded (saying
        how to place it by hand), or is another file, or the block raises one.
        """
        place = self.folder / wanted.name
        if wanted.local:
            if wanted.sha256:
                _check(wanted.local, files.sha256(wanted.local), wanted.sha256, "its publisher")
            yield wanted.local
            return
        remembered = self._remembered()  # before a download: it may be damaged
        if not place.exists():
            _fetch(wanted.url, place)
        try:
            seen = self._checked(wanted, place, remembered)
            yield place
        except DataError as error:
            raise DataError(
                f"{error}; if {place} is the wrong file, delete it and run the same command again, or place the "
                "right one there"
            ) from None
        if wanted.url not in remembered:
            self._remember(wanted.url, seen)

    def _checked(self, wanted: Download, place: Path, remembered: dict[str, Known]) -> Known:
        """Return what a file is; DataError if it is not the publisher's, the remembered one, or another address's."""
        seen = Known(sha256=files.sha256(place), size=place.stat().st_size, file=wanted.name)
        known = remembered.get(wanted.url)
        if wanted.sha256:
            _check(place, seen.sha256, wanted.sha256, "its publisher")
        if known:
            _check(place, seen.sha256, known.sha256, f"{self.lock}, of {wanted.url},")
        others = [url for url, other in remembered.items() if other == seen and url != wanted.url]
        if others and not known and not wanted.sha256:
            raise DataError(
                f"{place}: is what {others[0]} is, by {self.lock}; if {wanted.url} is another file, give it a name "
                "of its own (`file` in the preset)"
            )
        return seen

    def _remembered(self) -> dict[str, Known]:
        if not self.lock.exists():
            return {}
        with files.readable(self.lock):
            content = self.lock.read_bytes()
        try:
            return _LOCK.validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{key}: " for key in first["loc"])
            raise DataError(
                f"{self.lock}: {where}{first['msg']}; restore the file, or delete what is wrong in it"
            ) from None

    def _remember(self, url: str, seen: Known) -> None:
        with only_one(self.folder / ".lock"):
            entries = {url: seen} | self._remembered()
            text = _LOCK.dump_python(entries, exclude_none=True)
            files.write_json(self.lock, text, sort_keys=True)
        log.info("%s: sha256 %s, kept in %s (commit it)", url, seen.sha256, self.lock)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block with the same file, where the file system can lock one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(url: str, place: Path) -> None:
    """Download to a temporary file, and rename it when it is whole."""
    pooch.get_logger().setLevel(logging.WARNING)
    log.info("%s: downloading", url)
    get = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 16,
        timeout=_STALL,
        headers={"User-Agent": "ppap", "Accept-Encoding": "identity"},
    )
    try:
        pooch.retrieve(url, None, fname=place.name, path=place.parent, downloader=get)
        place.chmod(0o644)  # a temporary file is its owner's alone
    except (OSError, ValueError) as error:
        raise DataError(
            f"{url}: cannot be downloaded ({' '.join(str(error).split())}). Without network: download it elsewhere, "
            f"place it as {place} and run the same command again; it is checked then"
        ) from None


def _check(path: Path, sha256: str, wanted: str, source: str) -> None:
    if not sha256.startswith(wanted):
        raise DataError(f"{path}: its sha256 is {sha256}, but {source} says {wanted}")
