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

# Names of tensors in files that one step of the workflow writes and another reads.
IMAGES, LABELS = "images", "labels"  # of real images
MU, SIGMA = "mu", "sigma"  # mean and covariance of their Inception features, as published
FEATURES, LOGITS, PREDICTED = "features", "logits", "predicted"  # an evaluator's answers
TARGET, PICTURE = "target", "picture"  # of samples, and what shows it
IMAGE, MIRROR = "image", "mirror"  # a teacher's answers on an image, and on its mirror image

REMEDY = "delete it and run snakemake again"
_KINDS = (("float32", "float16", "bfloat16", "float64"), ("int64", "int32", "int16", "int8", "uint8"))


@dataclass(frozen=True)
class TensorSpec:
    """The description of a tensor. A length with a name may be any but 0, the same wherever the name stands.

    No value may be NaN, nor infinite (if `finite`); whole numbers are at least 0 and below `below`.
    """

    dtypes: tuple[str, ...]
    shape: tuple[int | str, ...]
    finite: bool = True
    below: int | None = None
    optional: bool = False


Spec = Mapping[str, TensorSpec]
Value = Tensor | NDArray[Any]


def read(path: Path, spec: Spec, about: Mapping[str, str] | None = None, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors of a file; DataError, naming the first differences, unless they are as described.

    `about` is what its metadata must say; a file that says nothing of it is one of version 0.1. With a prefix, the
    part of the file whose names have it is read, which the description names without.
    """
    check_metadata(path, about or {})
    tensors = files.read_tensors(path, prefix)
    if prefix and not tensors:
        raise DataError(f"{path}: holds nothing of {prefix.rstrip('.')}; {REMEDY}")
    check(path, tensors, spec)
    return tensors


def map_file(path: Path, spec: Spec, about: Mapping[str, str] | None = None) -> dict[str, NDArray[Any]]:
    """Do as `read`, but without a look at the values, which would read the whole file."""
    check_metadata(path, about or {})
    arrays = {name: value.numpy() for name, value in files.read_tensors(path).items()}
    _refuse(path, differences(arrays, spec), REMEDY)
    return arrays


def check(source: object, tensors: Mapping[str, Value], spec: Spec, remedy: str = REMEDY) -> None:
    """Raise DataError unless the tensors of this source, a file, are as described, values included."""
    _refuse(source, differences(tensors, spec), remedy)
    wrong = (_value(name, torch.as_tensor(value), spec[name]) for name, value in tensors.items())
    _refuse(source, list(filter(None, wrong)), remedy)


def check_metadata(path: Path, about: Mapping[str, str]) -> None:
    """Raise DataError if the file's metadata say that it was made for something else."""
    said = files.read_metadata(path)
    for key, value in about.items():
        if said.get(key, value) != value:
            raise DataError(f"{path}: made for {key} {said[key]}, not {value}; {REMEDY}")


def differences(tensors: Mapping[str, Value], spec: Spec) -> list[str]:
    """List how names, types and shapes differ from the description."""
    missing = [f"lacks {name}" for name, s in spec.items() if name not in tensors and not s.optional]
    unknown = [f"has an unknown {name}" for name in tensors if name not in spec]
    lengths: dict[str, int] = {}
    forms = [_form(name, tensors[name], spec[name], lengths) for name in spec if name in tensors]
    return sorted([*missing, *unknown, *filter(None, forms)])


def of_network(network: nn.Module) -> dict[str, TensorSpec]:
    """Describe a network's weights.

    Parameters must be finite; a buffer that is not in the new network, such as an attention mask, need not be.
    """
    described, buffers = {}, dict(network.named_buffers())
    for name, value in network.state_dict().items():
        finite = name not in buffers or value.is_meta or bool(value.isfinite().all())
        described[name] = TensorSpec((dtype_of(value),), tuple(value.shape), finite)
    return described


def of_published(network: nn.Module) -> dict[str, TensorSpec]:
    """Describe a network's weights as their publishers write them.

    Floats and whole numbers may be of other precisions, any buffer may hold infinities, and counts of batches may be
    missing, as in files from before PyTorch 0.4.1.
    """
    buffers = dict(network.named_buffers())
    described = {}
    for name, spec in of_network(network).items():
        kinds = next((kind for kind in _KINDS if spec.dtypes[0] in kind), spec.dtypes)
        counts = name.endswith("num_batches_tracked")
        described[name] = replace(spec, dtypes=kinds, finite=name not in buffers, optional=counts)
    return described


def dtype_of(value: Value) -> str:
    """Return the type of a tensor's or an array's numbers, as descriptions name it."""
    return str(value.dtype).removeprefix("torch.")


def _form(name: str, value: Value, wanted: TensorSpec, lengths: dict[str, int]) -> str:
    """Say how type or shape differ, if they do. `lengths` remembers those that have names."""
    if dtype_of(value) not in wanted.dtypes:
        return f"{name} is not {' or '.join(wanted.dtypes)} but {dtype_of(value)}"
    shape, needed = tuple(value.shape), wanted.shape
    if len(shape) == len(needed):
        for length, place in zip(shape, needed, strict=True):
            if isinstance(place, str) and length:
                lengths.setdefault(place, length)
        needed = tuple(lengths.get(n, n) if isinstance(n, str) else n for n in needed)
    return "" if shape == needed else f"{name} is {shape}, not {needed}".replace("'", "")


def _value(name: str, value: Tensor, wanted: TensorSpec) -> str:
    """Say how the values differ, if they do; NaN and infinity show in the smallest and the largest."""
    if not value.numel() or value.is_meta:
        return ""
    if value.is_floating_point():
        low, high = (float(end) for end in value.detach().aminmax())
        if math.isnan(low) or math.isnan(high):
            return f"{name} {'is not finite' if wanted.finite else 'holds NaN'}"
        infinite = wanted.finite and not (math.isfinite(low) and math.isfinite(high))
        return f"{name} is not finite" if infinite else ""
    if wanted.below is not None:
        low, high = (int(end) for end in value.aminmax())
        if low < 0 or high >= wanted.below:
            return f"{name} has {low if low < 0 else high}, beyond 0 to {wanted.below - 1}"
    return ""


def _refuse(source: object, problems: list[str], remedy: str) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        text = f"{source}: {'; '.join(problems[:3])}{more}"
        raise DataError(f"{text}; {remedy}" if remedy else text)
