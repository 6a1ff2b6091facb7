"""Weights of others: read without running code, and checked to be a network's before it takes them."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import TensorSpec

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
    """DataError, naming the first differences, unless the tensors are the network's weights, as published."""
    tensor_spec.check(source, tensors, tensor_spec.of_published(network), remedy="")


def check_numbers(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """DataError, naming the first differences, unless all numbers are as weights of the network may be.

    Names and shapes may be others. Of tensors that the network has no name for, only that they are finite.
    """
    known = tensor_spec.of_published(network)
    spec = {
        name: replace(known[name], shape=tuple(value.shape))
        if name in known
        else TensorSpec((tensor_spec.dtype_of(value),), tuple(value.shape))
        for name, value in tensors.items()
    }
    tensor_spec.check(source, tensors, spec, remedy="")


def provenance(path: Path) -> dict[str, str]:
    """What a file says, in its metadata, of the one of somebody else's that it was made from."""
    return {"source": path.name, "source_sha256": files.sha256(path)}
