"""Where and how networks run: device, precision, memory layout."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ppap.config import Runtime
from ppap.errors import DataError, PPAPError

# from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


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
        network.compile()
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


def load_weights(
    network: nn.Module, tensors: dict[str, Tensor], source: object, assign: bool = False
) -> None:
    """Load weights that must be the network's (see `check_weights`); `assign` them instead of copying."""
    check_weights(network, tensors, source)
    network.load_state_dict(tensors, assign=assign)


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
