"""The sign that a job is at work: a file that it holds locked and renews, with its progress, until it ends.

A file that nobody holds is of a job that was killed; a lock tells so across the nodes of a cluster, as process ids do
not. Where a file system has no locks, the time of the last sign does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ppap.utils import progress

BEAT = progress.EARLY
"""Seconds between two signs."""

SILENT = 60
"""Seconds without a sign after which a job is taken for dead, where nothing can be locked."""

_PATIENCE = (
    5  # seconds that a job which has ended waits for its sign to go: its file system may hang
)
_SIZE = 2048  # bytes of a sign, all of them written at once; a long one is cut short


class Sign(NamedTuple):
    """Of a job: whether it lives, where and since when (UNIX time), and what it said last of its progress.

    `left` are the seconds to the end of its loop, at the time `said`.
    """

    alive: bool
    where: str = ""
    since: float | None = None
    progress: str = ""
    left: float | None = None
    said: float | None = None


@contextlib.contextmanager
def at_work(path: Path | None, name: str) -> Iterator[None]:
    """While the block runs: renew the sign in this file, and have the job say something every half minute.

    A file that cannot be written, or that another process holds, does not keep the job from its work.
    """
    progress.begin()
    heart = _Heart(path, name)
    heart.start()
    try:
        yield
    finally:
        heart.stop()


def read(path: Path) -> Sign | None:
    """The sign in a file; None if there is none."""
    try:
        with path.open("rb") as file:
            content, alive = file.read(_SIZE), _is_held(file)
    except OSError:
        return None
    with contextlib.suppress(ValueError):  # half of it, while it is renewed
        found = json.loads(content)
        if isinstance(found, dict):
            return Sign(alive, *(_checked(found.get(name), kind) for name, kind in _PARTS.items()))
    return Sign(alive)


_PARTS = {"where": str, "since": float, "progress": str, "left": float, "said": float}


def _checked(value: Any, kind: type) -> Any:
    if isinstance(value, kind):
        return value
    return "" if kind is str else None


def _is_held(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return time.time() - os.fstat(file.fileno()).st_mtime < SILENT
    return False


class _Heart:
    """The thread that gives the signs."""

    def __init__(self, path: Path | None, name: str) -> None:
        self._path, self._job = path, name
        self._began, self._since = time.monotonic(), time.time()
        self._ended = threading.Event()
        self._held: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(_PATIENCE)

    def _beat(self) -> None:
        self._renew()
        while not self._ended.wait(BEAT):
            progress.say_if_due(self._job, self._began)
            self._renew()
        if self._path is not None and self._held is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._held.close()

    def _renew(self) -> None:
        """Write a sign, unless another process holds the file, or it cannot be written."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            self._held = self._held or _held(self._path)
            if self._held is not None:
                self._write(self._path)

    def _write(self, path: Path) -> None:
        sign = json.dumps(self._sign(), ensure_ascii=False).encode()[:_SIZE].ljust(_SIZE)
        try:
            with path.open("r+b", buffering=0) as file:  # and closed, so that other nodes see it
                file.write(sign)
        except FileNotFoundError:  # removed as unfinished work: a new one at the next beat
            self._held = None

    def _sign(self) -> dict[str, Any]:
        now = progress.current()
        job = os.environ.get("SLURM_JOB_ID")
        return {
            "where": f"{platform.node()}, {f'Slurm job {job}' if job else f'process {os.getpid()}'}",
            "since": self._since,
            "progress": now.text[:300] if now else "",
            "left": None if now is None or now.left is None else float(now.left),
            "said": time.time(),
        }


def _held(path: Path) -> IO[bytes] | None:
    """The file, held by this process until it is closed; None if another one holds it, if only to look."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:  # where nothing can be locked, its time tells
        pass
    # one that its last holder has removed meanwhile is nobody's
    return file if os.path.samestat(path.stat(), os.fstat(file.fileno())) else None
