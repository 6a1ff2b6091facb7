"""Files of others: downloaded once for all presets, resumed where they broke off, checked every time."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from ppap import files
from ppap.config import Download
from ppap.errors import DataError

log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_ATTEMPTS = 5
_NOTHING_LEFT = 416  # HTTP: the range that is asked for begins after the end


@dataclass(frozen=True)
class Downloads:
    """A folder of downloaded files, and the lock file that remembers what their first download was."""

    folder: Path
    lock: Path

    def get(self, wanted: Download) -> Path:
        """The file, downloaded if it is not there yet.

        Its SHA-256 must be the publisher's, as far as he prints it, and that of the first download.
        DataError if it cannot be downloaded (saying how to place it by hand), or is another file.
        """
        if wanted.is_path:
            self._check(wanted, Path(wanted.url))
            return Path(wanted.url)
        path = self.folder / wanted.name
        if not path.exists():
            self._download(wanted, path)
        self._check(wanted, path)
        return path

    def _download(self, wanted: Download, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with only_one(part) as file:
            if path.exists():  # another job has downloaded it meanwhile
                return
            try:
                for attempt in range(_ATTEMPTS):
                    if _transfer(wanted.url, part, file):
                        break
                    log.warning("%s: broke off; going on", wanted.url)
                    time.sleep(2**attempt if attempt else 0)
                else:
                    raise DataError(f"{wanted.url}: broke off {_ATTEMPTS} times; {part} is kept")
            except (
                *(urllib.error.URLError, http.client.HTTPException),
                *(ConnectionError, TimeoutError),
            ) as error:
                raise DataError(self._by_hand(wanted, path, error)) from None
            except OSError as error:
                raise DataError(f"{part}: cannot be written: {error.strerror or error}") from error
            part.replace(path)
            _validator(part).unlink(missing_ok=True)

    def _by_hand(self, wanted: Download, path: Path, error: Exception) -> str:
        reason = getattr(error, "reason", None) or error
        return (
            f"{wanted.url}: cannot be downloaded ({reason}). Without network: download it elsewhere, "
            f"place it as {path} and run the same command again; it is checked then"
        )

    def _check(self, wanted: Download, path: Path) -> None:
        found = {"sha256": files.sha256(path), "size": path.stat().st_size}
        known = self._remembered().get(wanted.url, {})
        for expected, source in (
            (wanted.sha256, "its publisher says"),
            (known.get("sha256"), f"{self.lock} says"),
        ):
            if expected and not str(found["sha256"]).startswith(expected):
                raise DataError(
                    f"{path}: its sha256 is {found['sha256']}, but {source} {expected}; "
                    "if it is damaged, delete it and run the same command again"
                )
        if not known and wanted.url.startswith("http"):
            self._remember(wanted.url, found)

    def _remembered(self) -> dict[str, dict[str, Any]]:
        return files.read_json(self.lock) if self.lock.exists() else {}

    def _remember(self, url: str, found: dict[str, Any]) -> None:
        with only_one(self.folder / ".lock"):
            files.write_json(self.lock, dict(sorted((self._remembered() | {url: found}).items())))
        log.info("%s: sha256 %s, kept in %s (commit it)", url, found["sha256"], self.lock)


def _transfer(url: str, part: Path, file: BinaryIO) -> bool:
    """Append what is missing to a partial file; False if the connection broke before the end."""
    have = file.seek(0, 2)
    request = urllib.request.Request(url, headers={"User-Agent": "ppap"})
    validator = _validator(part)
    if (
        have and validator.exists()
    ):  # If-Range: the rest of this very version, or else all of it anew
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator.read_text())
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != _NOTHING_LEFT:
            raise
        validator.unlink()  # all of it is there, or it is too long: once more from the start
        return False
    with answer as response:
        if response.status != 206:  # the whole file; None for file:// URLs
            have = file.seek(0)
            file.truncate()
            _remember_version(validator, response.headers)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            tqdm(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True) as bar,
            contextlib.suppress(http.client.IncompleteRead, ConnectionError, TimeoutError),
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        file.flush()
    return total is None or file.tell() == total


def _validator(part: Path) -> Path:
    """Where the version of a partial file is kept: its ETag, or the time of its last change."""
    return part.with_name(f"{part.name}.version")


def _remember_version(validator: Path, headers: Any) -> None:
    etag = headers.get("ETag")
    version = headers.get("Last-Modified") if not etag or etag.startswith("W/") else etag
    if version:
        validator.write_text(version)
    else:
        validator.unlink(missing_ok=True)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[BinaryIO]:
    """Open a file to append to, once no other process has it open so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
