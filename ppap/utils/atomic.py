"""Writing of files: whole or not at all, several together or none of them, and nothing left behind.

A file is written under a hidden name in a folder of its own beside it, `.NAME.TOKEN.part`, and renamed from
there. As long as its writer lives, it holds a lock in that folder; a folder that nobody holds is a killed
writer's, and the next writer of the same file removes it. This holds across the nodes of a cluster, as
process ids do not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError

from ppap.utils.errors import DataError

Writer = Callable[[Path], None]
"""Writes a file of the name that it is given."""
_LOCK, _OLD = ".lock", ".old"


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to; renamed to `path` when the block ends, removed when it fails.

    DataError, with the reason, if the file system refuses: no space, no permission, a file or a folder in
    the way.
    """
    with _guarded(path), _draft(path) as draft:
        yield draft
        _publish({path: draft})


def write_all(writers: Mapping[Path, Writer]) -> None:
    """Write several files, each by its own writer: all of them or none. DataError as in `whole`."""
    with contextlib.ExitStack() as stack:
        drafts = {}
        for path, write in writers.items():
            with _guarded(path):
                drafts[path] = stack.enter_context(_draft(path))
                write(drafts[path])
        _publish(drafts)


def check_writable(*paths: Path) -> None:
    """DataError unless these files can be written here: for steps that compute for hours before they do."""
    for path in paths:
        with _guarded(path), _draft(path):
            pass


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be written: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        in_the_way = next((above for above in path.parents if above.is_file()), path.parent)
        return f"{in_the_way} is not a folder"
    if isinstance(error, FileNotFoundError):
        return f"{path.parent} has vanished, or cannot be made"
    if isinstance(error, OSError):
        return error.strerror or f"the disk is full or refuses more ({error})"
    return str(error)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A name to write to, in a folder that is gone when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    _sweep(path)
    with contextlib.ExitStack() as stack:
        yield _locked_folder(path, stack) / f".draft{path.suffix}"


def _locked_folder(path: Path, stack: contextlib.ExitStack) -> Path:
    """A new folder with a lock that is held, both until the stack ends."""
    while True:
        folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked: another one
            lock = stack.enter_context((folder / _LOCK).open("wb"))
            with contextlib.suppress(OSError):  # where nothing can be locked, nothing is swept
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / _LOCK).exists():
                return folder


def _sweep(path: Path) -> None:
    """Remove what killed writers of this file left behind."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _publish(drafts: Mapping[Path, Path]) -> None:
    """Rename all drafts to their paths. If one cannot be, the others' old files are put back."""
    for path, draft in drafts.items():
        with _guarded(path):
            _seal(draft)
    old: dict[Path, Path | None] = {}
    try:
        for path, draft in drafts.items():
            with _guarded(path):
                if len(drafts) > 1:
                    old[path] = _keep(path, draft.with_name(_OLD))
                draft.replace(path)
    except BaseException:
        for path, kept in old.items():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True) if kept is None else kept.replace(path)
        raise


def _seal(draft: Path) -> None:
    """Have a draft on the disk, as some file systems refuse only now; others may read it as they may others.

    safetensors writes files that their owner alone may read.
    """
    draft.chmod(draft.with_name(_LOCK).stat().st_mode & 0o777)
    with draft.open("rb") as file:
        os.fsync(file.fileno())


def _keep(path: Path, name: Path) -> Path | None:
    """Give a file a second name; None if there is no such file."""
    try:
        os.link(path, name, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:  # a file system without hard links
        shutil.copy2(path, name, follow_symlinks=False)
    return name
