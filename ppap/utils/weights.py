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

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema", "shadow")
_ONLINE = (
    *("state_dict", "model_state_dict", "params", "module", "online_model"),
    *("model", "network", "net", "unet", "diffusion_model"),  # as Lightning modules call theirs
)
_COUNTS = {"n_averaged", "initted", "step", "decay", "num_updates"}  # of averages, beside their weights
_COMPILED = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.?")
_PARAMETRIZED = re.compile(r"parametrizations\.(\w*weight)\.(original[01]?|0\._[uv])$")
_PARTS = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}  # named as before 1.9


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict of somebody else's: safetensors, or PyTorch's format, of which no code is run.

    It is taken out of what training scripts put around it, in any order: entries of a checkpoint, and prefixes of
    Lightning, of data parallel, of `torch.compile`. Averaged (EMA) weights are taken where there are any. Weights that
    a weight norm, a spectral norm or a mask computes are what they are in eval mode. DataError unless it maps names to
    plain tensors, of which there is one at least.
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
    with files.readable(path):
        return _computed(dict(state))


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
    """Take the state dict out of the entries of a checkpoint, or from behind the prefixes of its names.

    Averages lay over the weights that they are of: some keep parameters alone, no buffers.
    """
    if not isinstance(state, Mapping):
        return state
    inside: dict[str, Any] = {
        k: v for k, v in state.items() if k in _AVERAGED + _ONLINE and isinstance(v, Mapping | list) and v
    }
    if not inside:
        state = {_COMPILED.sub("", name) if isinstance(name, str) else name: value for name, value in state.items()}
        inside = _by_prefix(state)
    if not inside:
        return state
    averaged, online = (next((inside[key] for key in of if key in inside), None) for of in (_AVERAGED, _ONLINE))
    weights = _unwrapped(online)
    if not isinstance(averaged, Mapping):  # without names they cannot be told apart
        return weights if averaged is None else averaged
    named = {str(name).replace(".", ""): name for name in online or ()}  # some averages have names without dots
    averaged = _unwrapped({named.get(n, n): value for n, value in averaged.items() if n not in _COUNTS})
    return {**weights, **averaged} if isinstance(weights, Mapping) else averaged


def _by_prefix(state: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """Group by what stands before the first dot, if that is a wrapper's: one, and one that averages, at most."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        prefix, _, rest = str(name).partition(".")
        if name not in _COUNTS:
            groups.setdefault(prefix if rest else "", {})[rest] = value
    fits = all(len(groups.keys() & {*of}) <= 1 for of in (_AVERAGED, _ONLINE))
    return groups if fits and groups.keys() <= {*_AVERAGED, *_ONLINE} else {}


def _computed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the weights themselves in the place of what weight norm, spectral norm and pruning compute them from."""
    state = {_PARAMETRIZED.sub(lambda m: f"{m[1]}_{_PARTS[m[2]]}", name): value for name, value in state.items()}
    for weight in [name.rpartition("_")[0] for name in state if name.endswith(("weight_g", "weight_orig"))]:
        g, v, original, u, mask = (state.get(f"{weight}_{part}") for part in ("g", "v", "orig", "u", "mask"))
        if g is not None and v is not None:
            others = [d for d, n in enumerate(g.shape) if n == 1] or None
            state[weight] = v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))
        elif original is not None and u is not None and v is not None:
            rows = original if len(u) == len(original) else original.transpose(0, 1)  # of a transposed convolution
            state[weight] = original / (u @ rows.flatten(1) @ v)
        elif original is not None and mask is not None:
            state[weight] = original * mask
        else:
            continue
        for part in ("g", "v", "orig", "u", "mask"):
            state.pop(f"{weight}_{part}", None)
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
