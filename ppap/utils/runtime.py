"""The runtime of networks: device, precision, memory layout."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from ppap.utils.errors import PPAPError
from ppap.utils.settings import Section

# from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


# the layers whose weights autocast casts
_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


class Runtime(Section):
    """How networks run; nothing here changes what is computed, but for rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto`: a GPU if there is one"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "float32",
        description="of the networks' arithmetic (autocast); states stay float32. "
        "`auto`: bfloat16 where the processor has arithmetic for it, else float32",
    )
    channels_last: bool = Field(False, description="memory layout of the networks")
    compile: bool | Literal["reduce-overhead"] = Field(
        False,
        description="`true`: `torch.compile` the networks; needs a C++ compiler. `reduce-overhead`: into CUDA graphs, "
        "for small networks on a GPU. What was compiled is kept in `scratch/compiled` (or in "
        "`$TORCHINDUCTOR_CACHE_DIR`): the next job takes it up",
    )


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free, instead of handing it back to the kernel at every step.

    On a CPU the pages of a loop's tensors are otherwise mapped and zeroed anew each time: an eighth of
    the time of guided sampling with the small networks of `digits`. Elsewhere than glibc: nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (_M_TRIM_THRESHOLD, 1 << 30),
            (_M_TOP_PAD, 1 << 26),
            (_M_MMAP_THRESHOLD, 1 << 25),
        ):
            mallopt(option, value)


def device(runtime: Runtime) -> torch.device:
    """The device to use; PPAPError if a GPU is asked for and there is none."""
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise PPAPError("runtime.device: cuda, but torch sees no GPU")
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(runtime.device)


def place(network: nn.Module, runtime: Runtime, channels_last: bool = False) -> nn.Module:
    """Move a network to its device and memory layout, compiled if asked for."""
    network = network.to(device(runtime))
    if channels_last or runtime.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if runtime.compile:
        network.compile(mode=None if runtime.compile is True else runtime.compile)
    return network


def keep_compiled(folder: Path) -> None:
    """Have what torch compiles kept in this folder, for the jobs to come, unless the user's environment says where."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.absolute()))


def hold_precision(network: nn.Module, runtime: Runtime) -> nn.Module:
    """Have a frozen network hold the weights of its convolutions and linear layers in the runtime's precision.

    Autocast would cast them anew at every call, since its cache serves trainable parameters only. The numbers are the
    same: it would round the same weights in the same way. Norms and embeddings stay in float32.
    """
    dtype = precision(runtime)
    if dtype != torch.float32:
        for module in network.modules():
            if isinstance(module, _CAST):
                module.to(dtype)
    return network


@contextlib.contextmanager
def autocast(runtime: Runtime) -> Iterator[None]:
    """The runtime's precision for whatever runs inside."""
    where, dtype = device(runtime), precision(runtime)
    with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
        yield


def precision(runtime: Runtime) -> torch.dtype:
    """The precision of the networks' arithmetic, on the device at hand."""
    if runtime.precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device(runtime)) else torch.float32
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return named[runtime.precision]


def _has_bfloat16(where: torch.device) -> bool:
    """Whether the device has arithmetic for bfloat16. Others emulate it, many times slower."""
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
