"""Weights of others: read without running code, and checked to be a network's before it takes them."""

from __future__ import annotations

import argparse
import pickle
import re
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
    """Read a state dict of somebody else's: safetensors, or PyTorch's format, of which no code is run.

    It is taken out of the wrapper that its publisher put around it, if there is one. DataError unless it maps names
    to plain tensors, of which there is one at least.
    """
    state = files.read_tensors(path) if path.suffix == ".safetensors" else _load(path)
    state = _unwrapped(state)
    if not (isinstance(state, Mapping) and state):
        raise DataError(f"{path}: not a state dict (a mapping of names to tensors), or an empty one")
    for name, value in state.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not (plain and isinstance(name, str)) or value.is_quantized or value.is_complex():
            kind = f"of type {type(value).__name__}"
            raise DataError(f"{path}: not a state dict: {name!r} is no plain tensor, but {kind}")
    return dict(state)


def _load(path: Path) -> Any:
    """Load what `torch.save` wrote: tensors in containers, and the settings that training scripts put beside them."""
    with files.readable(path), torch.serialization.safe_globals([argparse.Namespace]):
        mapped = zipfile.is_zipfile(path)  # older files cannot be memory-mapped
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:  # torch's own words advise to run the file
            asked = re.search(r"(?:GLOBAL|class) (\S+)", str(error))
            reason = f"it asks to run {asked[1]}; only tensors are read" if asked else "no tensors"
            raise ValueError(reason) from None


def _unwrapped(state: Any) -> Any:
    """Take the state dict out of a checkpoint of timm or DeiT, or of a model trained on several GPUs."""
    if isinstance(state, Mapping):
        inside = (state.get(key) for key in _WRAPPERS)
        state = next((value for value in inside if isinstance(value, Mapping)), state)
        if all(str(name).startswith("module.") for name in state):
            return {str(name).removeprefix("module."): value for name, value in state.items()}
    return state


def load_weights(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Load weights that must be the network's (see `check_weights`)."""
    check_weights(network, tensors, source)
    network.load_state_dict(tensors)


def check_weights(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Raise DataError, naming the first differences, unless the tensors are the network's weights, as published."""
    tensor_spec.check(source, tensors, tensor_spec.of_published(network), remedy="")


def check_numbers(network: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Raise DataError unless all numbers are as weights of the network may be, whatever their names and shapes."""
    known = tensor_spec.of_published(network)
    spec = {
        name: replace(known.get(name, TensorSpec((tensor_spec.dtype_of(value),), ())), shape=tuple(value.shape))
        for name, value in tensors.items()
    }
    tensor_spec.check(source, tensors, spec, remedy="")


def provenance(path: Path) -> dict[str, str]:
    """Return name and SHA-256 of a file of somebody else's, for the metadata of what is made from it."""
    return {"source": path.name, "source_sha256": files.sha256(path)}
