"""The device that networks run on, and how they lie on it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from ppap.utils.errors import ConfigError, PPAPError, reason
from ppap.utils.settings import Section


class Runtime(Section):
    """Networks run in this way. Nothing here changes what is computed, but for rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: a GPU if there is one")
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


def device_of(runtime: Runtime) -> torch.device:
    """Return the device to use; PPAPError if a GPU is asked for and there is none."""
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise PPAPError("runtime.device: cuda, but torch sees no GPU")
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(runtime.device)


def place(network: nn.Module, runtime: Runtime, channels_last: bool = False) -> nn.Module:
    """Move a network to its device and memory layout, compiled if asked for."""
    network = network.to(device_of(runtime))
    if channels_last or runtime.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if runtime.compile:
        network.compile(mode=None if runtime.compile is True else runtime.compile)
    return network


def try_network(trial: Callable[[], object], what: str) -> None:
    """Try a network on the meta device, and on the CPU if it does not work there; ConfigError if on neither."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                trial()
        except PPAPError:
            raise
        except Exception as error:  # of a library's code
            if device == "cpu":
                raise ConfigError(f"{what} cannot be used ({reason(error)})") from error
        else:
            return


def keep_compiled(folder: Path) -> None:
    """Have what torch compiles kept in this folder for later jobs, unless the user's environment names another."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.absolute()))


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free, instead of handing it back to the kernel at every step.

    On a CPU the pages of a loop's tensors are otherwise mapped and zeroed anew each time: a twelfth of the time of
    guided sampling with the small networks of `digits`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # elsewhere than glibc there is none
    if mallopt is not None:
        # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD of malloc.h
        for option, value in ((-1, 1 << 30), (-2, 1 << 26), (-3, 1 << 25)):
            mallopt(option, value)
