"""Descriptions of the tensors in a file, and the one checker that reads files by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppap.utils import files
from ppap.utils.errors import DataError

REMEDY = "delete it and run snakemake again"
_KINDS = (
    ("float32", "float16", "bfloat16", "float64"),
    ("int64", "int32", "int16", "int8", "uint8"),
)


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must be. A length with a name may be any but 0, the same wherever the name stands.

    No value may be NaN, nor infinite (if `finite`); whole numbers are at least 0 and below `below`.
    """

    dtypes: tuple[str, ...]
    shape: tuple[int | str, ...]
    finite: bool = True
    below: int | None = None
    optional: bool = False


Spec = Mapping[str, TensorSpec]
Value = Tensor | NDArray[Any]


def read(
    path: Path, spec: Spec, about: Mapping[str, str] | None = None, prefix: str = ""
) -> dict[str, Tensor]:
    """The tensors of a file; DataError, naming the first differences, unless they are as described.

    `about` is what its metadata must say; a file that says nothing of it is one of version 0.1. With a prefix, the
    part of the file whose names have it, which the description names without.
    """
    check_metadata(path, about or {})
    tensors = files.read_tensors(path, prefix)
    if prefix and not tensors:
        raise DataError(f"{path}: holds nothing of {prefix.rstrip('.')}; {REMEDY}")
    check(path, tensors, spec)
    return tensors


def map_file(
    path: Path, spec: Spec, about: Mapping[str, str] | None = None
) -> dict[str, NDArray[Any]]:
    """As `read`, but memory-mapped: values are not looked at, which would read the whole file."""
    check_metadata(path, about or {})
    arrays = files.map_tensors(path)
    _refuse(path, differences(arrays, spec), REMEDY)
    return arrays


def check(source: object, tensors: Mapping[str, Value], spec: Spec, remedy: str = REMEDY) -> None:
    """DataError unless the tensors of this source, a file, are as described, values included."""
    _refuse(source, differences(tensors, spec), remedy)
    values = ((name, torch.as_tensor(value)) for name, value in tensors.items())
    _refuse(source, [p for name, value in values if (p := _value(name, value, spec[name]))], remedy)


def check_metadata(path: Path, about: Mapping[str, str]) -> None:
    """DataError if the file's metadata say that it was made for something else."""
    found = files.read_metadata(path)
    for key, value in about.items():
        if found.get(key, value) != value:
            raise DataError(f"{path}: made for {key} {found[key]}, not {value}; {REMEDY}")


def differences(found: Mapping[str, Value], spec: Spec) -> list[str]:
    """How names, types and shapes differ from the description."""
    missing = [f"lacks {name}" for name, s in spec.items() if name not in found and not s.optional]
    unknown = [f"has an unknown {name}" for name in found if name not in spec]
    lengths: dict[str, int] = {}
    odd = [
        problem
        for name, wanted in spec.items()
        if name in found and (problem := _form(name, found[name], wanted, lengths))
    ]
    return sorted(missing + unknown + odd)


def of_network(network: nn.Module) -> dict[str, TensorSpec]:
    """The description of a network's weights.

    Parameters must be finite; a buffer that is not in the new network, such as an attention mask, need not be.
    """
    buffers = dict(network.named_buffers())
    return {
        name: TensorSpec(
            (dtype_of(value),),
            tuple(value.shape),
            finite=name not in buffers or value.is_meta or _is_finite(value),
        )
        for name, value in network.state_dict().items()
    }


def of_published(network: nn.Module) -> dict[str, TensorSpec]:
    """The description of a network's weights as their publishers write them.

    As `of_network`, but floats and whole numbers may be of other precisions, any buffer may hold infinities, and
    counts of batches may be missing, as in files from before PyTorch 0.4.1.
    """
    buffers = dict(network.named_buffers())
    return {
        name: replace(
            spec,
            dtypes=_of_kind(*spec.dtypes),
            finite=name not in buffers,
            optional=name.endswith("num_batches_tracked"),
        )
        for name, spec in of_network(network).items()
    }


def _of_kind(dtype: str) -> tuple[str, ...]:
    """This type, and those that hold numbers of the same kind."""
    others = next((kind for kind in _KINDS if dtype in kind), ())
    return (dtype, *(other for other in others if other != dtype))


def _form(name: str, value: Value, wanted: TensorSpec, lengths: dict[str, int]) -> str:
    """How type or shape differ, if they do. `lengths` remembers those that have names."""
    if dtype_of(value) not in wanted.dtypes:
        return f"{name} is not {' or '.join(wanted.dtypes)} but {dtype_of(value)}"
    shape, needed = tuple(value.shape), wanted.shape
    if len(shape) == len(needed):
        for length, place in zip(shape, needed, strict=True):
            if isinstance(place, str) and length:
                lengths.setdefault(place, length)
        needed = tuple(lengths.get(n, n) if isinstance(n, str) else n for n in needed)
    text = str(needed).replace("'", "")
    return "" if shape == needed else f"{name} is {shape}, not {text}"


def _value(name: str, value: Tensor, wanted: TensorSpec) -> str:
    """How the values differ, if they do."""
    if not _is_finite(value, infinite=not wanted.finite):
        return f"{name} {'is not finite' if wanted.finite else 'holds NaN'}"
    if wanted.below is not None and value.numel():
        low, high = (int(end) for end in value.aminmax())
        if low < 0 or high >= wanted.below:
            return f"{name} has {low if low < 0 else high}, beyond 0 to {wanted.below - 1}"
    return ""


def _is_finite(value: Tensor, infinite: bool = False) -> bool:
    """Whether no value is NaN, nor, unless allowed, infinite. Both show in smallest and largest, found in one pass."""
    if not value.is_floating_point() or not value.numel() or value.is_meta:
        return True
    ends = [float(end) for end in value.detach().aminmax()]
    return not any(map(math.isnan, ends)) if infinite else all(map(math.isfinite, ends))


def dtype_of(value: Value) -> str:
    """The type of a tensor's or an array's numbers, as descriptions name it."""
    return str(value.dtype).removeprefix("torch.")


def _refuse(source: object, problems: list[str], remedy: str) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        said = f"{'; '.join(problems[:3])}{more}"
        raise DataError(f"{source}: {said}; {remedy}" if remedy else f"{source}: {said}")
