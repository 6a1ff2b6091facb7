"""Files of others: downloaded once for all presets, proved to be what they should be, and remembered."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ppap.data.settings import Download
from ppap.data.transfer import (
    BrokenTransferError,
    RefusedTransferError,
    forget_version,
    nature,
    transfer,
)
from ppap.utils import files
from ppap.utils.errors import DataError

log = logging.getLogger(__name__)
_UNFINISHED = "unfinished"


class Known(BaseModel):
    """What the lock file remembers of an address: the file's SHA-256, its size and its name in downloads/."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    file: str | None = None


_LOCK = TypeAdapter(dict[str, Known])


@dataclass(frozen=True)
class Patience:
    """How long to put up with a server, in seconds, and how many attempts in a row may bring nothing.

    The pause between attempts begins with `pause` and doubles; a server may ask for a longer one, up to
    `longest_pause`.
    """

    stall: float = 60
    attempts: int = 5
    pause: float = 1
    longest_pause: float = 300

    def before(self, attempt: int, asked: float) -> float:
        """The pause before another attempt, the first of which is 1; `asked` is the server's wish."""
        return min(max(asked, self.pause * 2 ** (attempt - 1)), self.longest_pause)


@dataclass(frozen=True)
class Downloads:
    """A folder of downloaded files, and the lock file that remembers what their first download was.

    A file of the folder has been read once, or was placed there by hand. What is still arriving, or could
    not be read, is in `unfinished` inside it, where the next download goes on.
    """

    folder: Path
    lock: Path
    patience: Patience = Patience()

    @contextlib.contextmanager
    def file(self, wanted: Download) -> Iterator[Path]:
        """The file, downloaded if it is not there yet, for a block that reads and checks it.

        Its SHA-256 must be the publisher's, as far as he prints it, and that of the first download. The
        file is taken over and remembered only when the block ends without an error: what cannot be read
        is not remembered. DataError if it cannot be downloaded (saying how to place it by hand), or is
        another file, or the block raises one.
        """
        if wanted.local:
            with _explained(wanted.local, ""):
                self._check(wanted, wanted.local, {})
                yield wanted.local
            return
        self._remembered()  # a damaged lock file costs no download
        place = self.folder / wanted.name
        with self._arrived(wanted, place) as path:
            remembered = self._remembered()
            known = remembered.get(wanted.url)
            with _explained(path, _advice(place, wanted.url, self.lock if known else None)):
                found = self._check(wanted, path, remembered)
                yield path
            if known is None:
                self._remember(wanted.url, found)
            if path != place:
                with _written(place):
                    path.replace(place)
                    forget_version(path)

    @contextlib.contextmanager
    def _arrived(self, wanted: Download, place: Path) -> Iterator[Path]:
        """The file at its place; or else a whole but unproved one, which no other process touches."""
        with _written(place):
            there = place.exists()
        if there:
            yield place
            return
        partial = self.folder / _UNFINISHED / wanted.name
        with _written(partial):
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.open("ab").close()
        with only_one(partial):
            if place.exists():  # another process has downloaded it meanwhile
                yield place
            else:
                self._fetch(wanted.url, partial, place)
                yield partial

    def _fetch(self, url: str, partial: Path, place: Path) -> None:
        """Transfer what is missing, in as many attempts as bring it forward."""
        failures, furthest = 0, partial.stat().st_size
        while True:
            try:
                with _written(partial, "; what has arrived is kept"):
                    return transfer(url, partial, self.patience.stall)
            except RefusedTransferError as refused:
                raise DataError(_by_hand(url, str(refused), place)) from None
            except BrokenTransferError as broken:
                reason, asked = str(broken), broken.pause
            have = partial.stat().st_size
            failures = 1 if have > furthest else failures + 1
            furthest = max(furthest, have)
            if failures == self.patience.attempts:
                reason = f"{reason}, {failures} times in a row; what has arrived is kept"
                raise DataError(_by_hand(url, reason, place))
            pause = self.patience.before(failures, asked)
            log.warning("%s: %s; trying again in %.0f s", url, reason, pause)
            time.sleep(pause)

    def _check(self, wanted: Download, path: Path, remembered: dict[str, Known]) -> Known:
        """What a file is; DataError if it is not the publisher's, or not what the first download was."""
        _open(path)
        found = Known(sha256=files.sha256(path), size=path.stat().st_size, file=wanted.name)
        known = remembered.get(wanted.url)
        for expected, source in (
            (wanted.sha256, "its publisher says"),
            (known and known.sha256, f"{self.lock} says"),
        ):
            if expected and not found.sha256.startswith(expected):
                raise DataError(f"{path}: its sha256 is {found.sha256}, but {source} {expected}")
        others = [url for url, other in remembered.items() if other == found and url != wanted.url]
        if others and not known and not wanted.sha256 and path == self.folder / wanted.name:
            raise DataError(
                f"{path}: is what {others[0]} is, by {self.lock}; if {wanted.url} is another file, give it a "
                "name of its own (`file` in the preset)"
            )
        return found

    def _remembered(self) -> dict[str, Known]:
        try:
            return _LOCK.validate_json(self.lock.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DataError(f"{self.lock}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{key}: " for key in first["loc"])
            raise DataError(
                f"{self.lock}: {where}{first['msg']}; restore the file, or delete what is wrong in it"
            ) from None

    def _remember(self, url: str, found: Known) -> None:
        with only_one(self.folder / ".lock"):
            entries = {url: found} | self._remembered()
            files.write_json(
                self.lock, _LOCK.dump_python(entries, exclude_none=True), sort_keys=True
            )
        log.info("%s: sha256 %s, kept in %s (commit it)", url, found.sha256, self.lock)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block with the same file, which is made if need be.

    Where files cannot be locked, as on some network file systems, this is said, and there is no waiting.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: waiting for another process that has it", path)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning(
                "%s: cannot be locked (%s): let no other process download the same meanwhile",
                *(path, error.strerror),
            )
        yield


@contextlib.contextmanager
def _written(path: Path, besides: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}{besides}") from None


@contextlib.contextmanager
def _explained(path: Path, advice: str) -> Iterator[None]:
    """Say what a file is that turns out to be the wrong one, and what to do."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}{nature(path)}{advice}") from None


def _advice(place: Path, url: str, lock: Path | None) -> str:
    """What to do about the wrong file, or about the wrong one in the lock."""
    entry = f"; if {lock} remembers a wrong one, delete its entry of {url}" if lock else ""
    again = "if it is the wrong file, delete it and run the same command again"
    return f"; {again}, or place the right one as {place}{entry}"


def _open(path: Path) -> None:
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder, not a file")
        path.open("rb").close()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _by_hand(url: str, reason: str, place: Path) -> str:
    return (
        f"{url}: cannot be downloaded ({reason}). Without network: download it elsewhere, place it as "
        f"{place} and run the same command again; it is checked then"
    )
