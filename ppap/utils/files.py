"""Files of each format: written whole or not at all, and never unpickled."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ppap.utils.errors import DataError

Writer = Callable[[Path], None]
"""Writes a file under the name that it is given."""
_METADATA = "ppap"


# -- writing -----------------------------------------------------------------------------------------


def write_all(writers: Mapping[Path, Writer]) -> None:
    """Write several files, each by its own writer, under names beside theirs, and rename them once all are written.

    DataError, with the reason, if the file system refuses: no space, no permission, a folder in the way.
    """
    drafts: dict[Path, Path] = {}
    try:
        for path, write in writers.items():
            with _writable(path):
                drafts[path] = _draft(path)
                mode = drafts[path].stat().st_mode
                write(drafts[path])
                drafts[path].chmod(mode)  # safetensors writes files that their owner alone may read
                with drafts[path].open("rb") as file:
                    os.fsync(file.fileno())  # some file systems refuse only now
        for path, draft in drafts.items():
            with _writable(path):
                draft.replace(path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def check_writable(*paths: Path) -> None:
    """Raise DataError unless these files can be written here: for steps that compute for hours before they do."""
    for path in paths:
        with _writable(path):
            _draft(path).unlink()


def _draft(path: Path) -> Path:
    """Create an empty file beside this one, hidden from DVC."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    draft.touch()
    return draft


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        at = getattr(error, "filename", None)
        where = f" ({at})" if at and Path(at).parent != path.parent else ""
        raise DataError(f"{path}: cannot be written: {reason}{where}") from error


def tensors_writer(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Writer:
    """Return what writes tensors as safetensors; tied weights get a copy under each of their names."""

    def write(path: Path) -> None:
        ready: dict[str, Tensor] = {}
        taken = set()
        for name, tensor in tensors.items():
            value = tensor.detach().cpu().contiguous()
            memory = value.untyped_storage().data_ptr()
            ready[name] = value.clone() if memory in taken else value
            taken.add(memory)
        # one entry: safetensors writes several in a random order, and equal files should be equal
        about = {_METADATA: json.dumps(metadata, sort_keys=True)} if metadata else None
        save_file(ready, path, about)

    return write


def array_writer(array: NDArray[Any]) -> Writer:
    """Return what writes an array as .npy."""

    def write(path: Path) -> None:
        with path.open("wb") as file:  # given a name, numpy would append .npy
            np.save(file, array, allow_pickle=False)

    return write


def bytes_writer(content: bytes) -> Writer:
    """Return what writes these bytes."""

    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    write_all({path: tensors_writer(tensors, metadata)})


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy."""
    write_all({path: array_writer(array)})


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an uncompressed .npz."""

    def write(draft: Path) -> None:
        with draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    write_all({path: write})


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several texts, all or none."""
    write_all({path: bytes_writer(text.encode()) for path, text in texts.items()})


def write_json(path: Path, value: Any, sort_keys: bool = False) -> None:
    """Write a value as JSON."""
    write_text(path, json_text(value, sort_keys))


def json_text(value: Any, sort_keys: bool = False) -> str:
    """Return a value as `write_json` writes it."""
    return json.dumps(value, indent=2, sort_keys=sort_keys) + "\n"


# -- reading -----------------------------------------------------------------------------------------


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read safetensors; with a prefix, those whose names have it, by their names without it.

    Values are memory-mapped: they are read from the disk when they are used.
    """
    with readable(path), safe_open(path, "pt") as file:
        names = [name for name in file.offset_keys() if name.startswith(prefix)]
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata that `write_tensors` gave a file; none if others wrote it."""
    with readable(path), safe_open(path, "pt") as file:
        about = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
        if not all(isinstance(value, str) for value in about.values()):
            raise ValueError("metadata that are not text")
        about.pop("seal", None)  # version 0.2 wrote one
        return about


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map a .npy file, not for writing. No file stays open, so there may be thousands."""
    with readable(path):
        header = np.load(path, mmap_mode="r")  # numpy's own map would keep the file open
        if not header.flags.c_contiguous:
            raise ValueError("Fortran order")
        size = path.stat().st_size
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
        data = mapped[header.offset : header.offset + header.nbytes]
        return data.view(header.dtype).reshape(header.shape)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz."""
    with readable(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("no archive of arrays")
        with archive:
            return dict(archive)


def text_lines(path: Path, key: str, what: str) -> list[str]:
    """Read the lines of a text file (UTF-8) that a key names, but for blank ones; DataError if there are none."""
    try:
        with readable(path):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
    if not (texts := [line.strip() for line in lines if line.strip()]):
        raise DataError(f"{key}: {path}: holds no {what}; one a line was expected")
    return texts


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    with readable(path):
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}, not an object")
        return value


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises into a DataError: the file is missing, refused, damaged, or of another format."""
    try:
        with path.open("rb"):
            pass
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # what libraries raise on a damaged file has no end of types
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: truncated or not in the expected format ({reason})") from error
