"""The precision of the networks' arithmetic: autocast, and frozen weights that are held in half."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ppap.utils.device import Runtime, device_of

_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
"""The layers whose weights autocast casts."""


@contextlib.contextmanager
def autocast(runtime: Runtime) -> Iterator[None]:
    """Use the runtime's precision for whatever runs inside."""
    where, dtype = device_of(runtime), precision(runtime)
    with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
        yield


def is_cast(images: Tensor) -> bool:
    """Say whether autocast brings these images, and weights, to its precision; on the meta device there is none."""
    kind = images.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def precision(runtime: Runtime) -> torch.dtype:
    """Return the precision of the networks' arithmetic on the device at hand."""
    if runtime.precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device_of(runtime)) else torch.float32
    return getattr(torch, runtime.precision)


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


def _has_bfloat16(where: torch.device) -> bool:
    """Say whether the device has arithmetic for bfloat16. Others emulate it, many times slower."""
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
