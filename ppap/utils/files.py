"""Files of each format: read and written whole or not at all, and never unpickled."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import mmap
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ppap.utils.atomic import Writer
from ppap.utils.atomic import check_writable as check_writable
from ppap.utils.atomic import whole as whole
from ppap.utils.atomic import write_all as write_all
from ppap.utils.errors import DataError

_LIBC = ctypes.CDLL(None)
_METADATA = "ppap"
_SEAL = "seal"
# safetensors' names of what PPAP's own files hold, and numpy's
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_DEFLATED = 1032  # bytes that one byte of a zip archive unpacks to, at most
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors."""
    write_tensor_files({path: (tensors, metadata)})


def write_tensor_files(
    contents: Mapping[Path, tuple[dict[str, Tensor], dict[str, str] | None]],
) -> None:
    """Write several files of tensors, with their metadata: all of them or none."""
    write_all({path: tensors_writer(*content) for path, content in contents.items()})


def tensors_writer(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Writer:
    """What writes tensors as safetensors; for `write_all`."""

    def write(path: Path) -> None:
        ready = _unshared(tensors)
        # one entry: safetensors writes several in a random order, and equal files should be equal
        about = {**(metadata or {}), _SEAL: _seal(metadata or {}, _described(ready))}
        save_file(ready, path, {_METADATA: json.dumps(about, sort_keys=True)})

    return write


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: tied weights have a copy under each of their names."""
    ready: dict[str, Tensor] = {}
    taken = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        ready[name] = value.clone() if memory in taken else value
        taken.add(memory)
    return ready


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read safetensors; DataError if the file is missing, truncated, of another format, or if its header
    was changed after `write_tensors`.

    With a prefix, only tensors whose names have it, by their names without it."""
    read_metadata(path)
    with readable(path), _parsing(), safe_open(path, "pt") as file:
        return {
            name.removeprefix(prefix): file.get_tensor(name)
            for name in file.offset_keys()
            if name.startswith(prefix)
        }


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that `write_tensors` gave a file; none if others wrote it."""
    with readable(path), _parsing(), safe_open(path, "pt") as file:
        about = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
        if not all(isinstance(value, str) for value in about.values()):
            raise ValueError("metadata that are not text")
        seal = about.pop(_SEAL, None)  # none: of version 0.1, or not written here
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        found = {
            name: (_DTYPES.get(s.get_dtype(), ""), s.get_shape()) for name, s in slices.items()
        }
        if seal not in (None, _seal(about, found)):
            raise ValueError("its header is not the one that was written")
        return about


def write_array(path: Path, array: NDArray[Any]) -> None:
    write_all({path: array_writer(array)})


def array_writer(array: NDArray[Any]) -> Writer:
    """What writes an array as .npy; for `write_all`."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    return write


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an uncompressed .npz."""
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz. What declares more bytes than the file can hold is never allocated."""
    with readable(path), _parsing(), zipfile.ZipFile(path) as archive:
        return {
            entry.filename.removesuffix(".npy"): _read_entry(archive, entry)
            for entry in archive.infolist()
        }


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(entry) as file:
        header = _read_header(file)
        size = file.tell() + header.size
    largest = entry.compress_size * (_DEFLATED if entry.compress_type else 1)
    if entry.file_size != size or size > largest:
        raise ValueError(
            f"{entry.filename} declares {size} bytes, the archive has {entry.file_size}"
        )
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


class _ArrayHeader(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def _read_header(file: IO[bytes]) -> _ArrayHeader:
    """The header of the .npy file that begins here; the array's data begin where it ends."""
    header = _ArrayHeader(*_NPY_HEADERS[np.lib.format.read_magic(file)](file))
    if header.dtype.hasobject or any(length < 0 for length in header.shape):
        raise ValueError(f"Python objects, or an impossible shape: {header.dtype} {header.shape}")
    return header


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map a .npy file; no file stays open, so there may be thousands. Not for writing."""
    with readable(path), _parsing(), path.open("rb") as file:
        header = _read_header(file)
        start, size = file.tell(), path.stat().st_size
        if header.fortran:
            raise ValueError("Fortran order")
        if size - start != header.size:
            raise ValueError(f"{size} bytes for {header.dtype} {header.shape}")
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        return mapped.numpy()[start:].view(header.dtype).reshape(header.shape)


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Memory-map a safetensors file, as `map_array` does."""
    read_metadata(path)  # which checks the header
    with readable(path), _parsing(), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        size = path.stat().st_size
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
        data = mapped[8 + length :]
        return {
            name: data[slice(*about["data_offsets"])]
            .view(_DTYPES[about["dtype"]])
            .reshape(about["shape"])
            for name, about in header.items()
            if name != "__metadata__"
        }


def release(mapped: NDArray[Any]) -> None:
    """Hand back the pages of what `map_array` or `map_tensors` gave; they are read again when used.

    For nothing else: other memory would be lost.
    """
    page, first = mmap.PAGESIZE, mapped.ctypes.data
    start = -(-first // page) * page
    length = first + mapped.nbytes - start
    if length >= page:
        _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


def _described(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, list[int]]]:
    names = {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()}
    known = set(_DTYPES.values())
    return {
        name: (names[name] if names[name] in known else "", list(value.shape))
        for name, value in tensors.items()
    }


def _seal(metadata: Mapping[str, str], tensors: Mapping[str, tuple[str, list[int]]]) -> str:
    """A hash of what a file's header says: metadata, and names, types and shapes of the tensors.

    It shows that a tensor was dropped, renamed or retyped, or a word of the metadata changed, and costs
    nothing; the values have no part in it.
    """
    text = json.dumps(
        [dict(metadata), {name: list(about) for name, about in tensors.items()}], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, value: Any, sort_keys: bool = False) -> None:
    write_text(path, json_text(value, sort_keys))


def json_text(value: Any, sort_keys: bool = False) -> str:
    """A value as `write_json` writes it."""
    return json.dumps(value, indent=2, sort_keys=sort_keys) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; DataError if the file holds anything else."""
    with readable(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, not an object")
        return found


def write_text(path: Path, text: str) -> None:
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several texts: all of them or none."""
    write_all({path: bytes_writer(text.encode()) for path, text in texts.items()})


def bytes_writer(content: bytes) -> Writer:
    """What writes these bytes; for `write_all`."""

    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _parsing() -> Iterator[None]:
    """Around parsers, numpy's, zipfile's and safetensors': whatever they raise, the file is not in their format.

    Which exceptions that may be, none of them says; a header's syntax, types and sizes are the file's.
    """
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """DataError for a file that is not there, may not be read, or is not what its reader takes it for."""
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DataError(f"{path}: cannot be read: {reason}") from None
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: damaged, or larger than the memory") from None
    except OSError as error:
        if error.errno not in (
            None,
            errno.EINVAL,
        ):  # a place before the start of a file that was cut
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        raise DataError(_unexpected(path, error)) from None
    except pickle.UnpicklingError:  # whose text advises to let the file run code
        raise DataError(_unexpected(path, "more than plain tensors")) from None
    except Exception as error:  # what libraries raise on a damaged file has no end of types
        raise DataError(_unexpected(path, error)) from None


def _unexpected(path: Path, reason: object) -> str:
    text = " ".join(str(reason).split())
    return f"{path}: truncated or not in the expected format ({text or type(reason).__name__})"
