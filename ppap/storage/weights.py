"""Weights of others: read without running code, and checked to be a network's before it takes them."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppap.errors import DataError
from ppap.storage import files

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # in timm's order


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict of somebody else's: safetensors, or PyTorch's format, of which no code is run.

    Taken out of the wrapper that its publisher put around it, if there is one. DataError unless it maps names
    to plain tensors, of which there is one at least.
    """
    if path.suffix == ".safetensors":
        state: Any = files.read_tensors(path)
    else:
        with files.readable(path):
            mapped = zipfile.is_zipfile(path)  # older files cannot be memory-mapped
            state = _load_tensors(path, mapped)
    state = _unwrapped(state)
    if not (isinstance(state, Mapping) and state):
        raise DataError(
            f"{path}: not a state dict (a mapping of names to tensors), or an empty one"
        )
    for name, value in state.items():
        if problem := _no_weights(name, value):
            raise DataError(f"{path}: not a state dict: {name!r} is {problem}")
    return dict(state)


def _load_tensors(path: Path, mapped: bool) -> Any:
    """What `torch.save` wrote: tensors in containers, and the settings that training scripts put beside them."""
    try:
        with (
            torch.serialization.safe_globals([argparse.Namespace]),
            warnings.catch_warnings(action="ignore"),  # of tensors that are refused anyway
        ):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError:
        raise
    except Exception as error:  # anything: the bytes are a stranger's
        # torch's own words advise to run the file
        asked = re.search(r"(?:GLOBAL|class) (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and asked:
            raise ValueError(f"it asks to run {asked[1]}; only tensors are read") from None
        raise ValueError("no file of tensors that torch.save wrote") from None


def _unwrapped(state: Any) -> Any:
    """The state dict in a checkpoint of timm or DeiT, or of a model trained on several GPUs."""
    if isinstance(state, Mapping):
        inside = (state.get(key) for key in _WRAPPERS)
        state = next((value for value in inside if isinstance(value, Mapping)), state)
    prefix = "module."
    if isinstance(state, Mapping) and all(str(name).startswith(prefix) for name in state):
        return {str(name).removeprefix(prefix): value for name, value in state.items()}
    return state


def _no_weights(name: Any, value: Any) -> str | None:
    """What keeps an entry of a state dict from being a named, plain tensor."""
    if not isinstance(name, str):
        return "no name"
    if not isinstance(value, Tensor):
        return f"no tensor, but of type {type(value).__name__}"
    if value.is_meta:
        return "a tensor without values (on the meta device)"
    if value.is_quantized:
        return "quantised"
    if value.layout != torch.strided:
        return f"a sparse tensor ({str(value.layout).removeprefix('torch.')})"
    return "complex" if value.is_complex() else None


def load_weights(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Load weights that must be the network's (see `check_weights`)."""
    check_weights(network, tensors, source)
    network.load_state_dict(tensors)


def check_weights(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """DataError, naming the first differences, unless names, shapes and kinds of numbers are the network's.

    Every number must be finite. Counts of batches may be missing, as in files from before PyTorch 0.4.1.
    """
    wanted = network.state_dict()
    lacking = (n for n in wanted.keys() - tensors.keys() if not n.endswith(".num_batches_tracked"))
    problems = [f"lacks {name}" for name in lacking]
    problems += [f"has an unknown {name}" for name in tensors.keys() - wanted.keys()]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted.keys() & tensors.keys()
        if tensors[name].shape != wanted[name].shape
    ]
    _refuse(source, problems)
    check_numbers(network, tensors, source)


def check_numbers(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """DataError, naming the first differences, unless numbers are finite, and floats where the network's are.

    Of tensors that the network has no name for, only that they are finite. A buffer may hold infinities,
    as masks do.
    """
    wanted, parameters = network.state_dict(), {name for name, _ in network.named_parameters()}
    _refuse(
        source,
        [
            f"{name} is of {_plain(value.dtype)}, not {_plain(wanted[name].dtype)}"
            for name, value in tensors.items()
            if name in wanted and _kind(value.dtype) != _kind(wanted[name].dtype)
        ],
    )
    _refuse(
        source,
        [
            f"{name} holds NaN or infinity"
            for name, value in tensors.items()
            if not _is_finite(value, infinite=name in wanted.keys() - parameters)
        ],
    )


def _refuse(source: object, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(f"{source}: {'; '.join(sorted(problems)[:3])}{more}")


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "floats"
    return "complex" if dtype.is_complex else "truth values" if dtype == torch.bool else "integers"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_finite(values: Tensor, infinite: bool) -> bool:
    """Whether there is no NaN, nor, unless allowed, an infinity: in one pass, without a mask in memory."""
    if not (values.is_floating_point() and values.numel()) or values.is_meta:
        return True
    values = values.float() if values.element_size() < 4 else values
    bounds = torch.stack(torch.aminmax(values.detach()))  # a NaN makes both NaN
    return not bool((bounds.isnan() if infinite else ~bounds.isfinite()).any())
