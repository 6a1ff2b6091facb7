"""Descriptions of the tensors in a file, and the one checker that reads files by them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppap.errors import DataError
from ppap.storage import files

REMEDY = "delete it and run snakemake again"


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must be. A length with a name may be any but 0, the same wherever the name stands.

    Floating-point values must be finite (if `finite`), whole numbers at least 0 and below `below`.
    """

    dtypes: tuple[str, ...]
    shape: tuple[int | str, ...]
    finite: bool = True
    below: int | None = None
    optional: bool = False


Spec = Mapping[str, TensorSpec]
Value = Tensor | NDArray[Any]


def read(path: Path, spec: Spec, about: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """The tensors of a file; DataError, naming the first differences, unless they are as described.

    `about` is what its metadata must say; a file that says nothing of it is one of version 0.1.
    """
    check_metadata(path, about or {})
    tensors = files.read_tensors(path)
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


def check(path: Path, tensors: Mapping[str, Value], spec: Spec, remedy: str = REMEDY) -> None:
    """DataError unless the tensors of this file are as described, values included."""
    _refuse(path, differences(tensors, spec), remedy)
    values = ((name, torch.as_tensor(value)) for name, value in tensors.items())
    _refuse(path, [p for name, value in values if (p := _value(name, value, spec[name]))], remedy)


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


def of_network(network: nn.Module, dtypes: tuple[str, ...] = ()) -> dict[str, TensorSpec]:
    """The description of a network's weights, of its own types or of `dtypes`.

    What is not finite in a new network, such as an attention mask, need not be.
    """
    buffers = dict(network.named_buffers())
    return {
        name: TensorSpec(
            dtypes if dtypes and value.is_floating_point() else (_dtype(value),),
            tuple(value.shape),
            finite=name not in buffers or value.is_meta or _is_finite(value),
        )
        for name, value in network.state_dict().items()
    }


def _form(name: str, value: Value, wanted: TensorSpec, lengths: dict[str, int]) -> str:
    """How type or shape differ, if they do. `lengths` remembers those that have names."""
    if _dtype(value) not in wanted.dtypes:
        return f"{name} is not {' or '.join(wanted.dtypes)} but {_dtype(value)}"
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
    if wanted.finite and not _is_finite(value):
        return f"{name} is not finite"
    if wanted.below is not None and value.numel():
        low, high = (int(end) for end in value.aminmax())
        if low < 0 or high >= wanted.below:
            return f"{name} has {low if low < 0 else high}, beyond 0 to {wanted.below - 1}"
    return ""


def _is_finite(value: Tensor) -> bool:
    """Whether all values are. NaN and infinity show in smallest and largest, found in one pass."""
    if not value.is_floating_point() or not value.numel():
        return True
    return all(math.isfinite(float(end)) for end in value.aminmax())


def _dtype(value: Value) -> str:
    return str(value.dtype).removeprefix("torch.")


def _refuse(path: Path, problems: list[str], remedy: str) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(f"{path}: {'; '.join(problems[:3])}{more}; {remedy}")
