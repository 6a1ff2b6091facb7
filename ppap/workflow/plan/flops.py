"""Floating-point operations of networks, counted by PyTorch on the meta device: nothing is computed.

A multiply-add counts as two operations, as in a GPU's peak rate. Convolutions, matrix products and
attention are counted; element-wise work, normalisation and resizing are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
Call = Callable[[Tensor], Tensor]
"""A network as a function of its images (B, C, H, W)."""


def on_meta(build: Callable[[], T]) -> T:
    """Return what `build` makes, with shapes but no memory behind its tensors."""
    with torch.device("meta"):
        return build()


def of_call(call: Callable[[], T]) -> tuple[int, T]:
    """Return the FLOPs of a call, and what it returns."""
    with torch.no_grad(), _counting() as counter:
        answer = call()
    return counter.get_total_flops(), answer


def forward(call: Call, shape: tuple[int, ...]) -> int:
    """Count a call with images of this shape."""
    return of_call(lambda: call(torch.empty(shape, device="meta")))[0]


def with_input_gradient(call: Call, shape: tuple[int, ...]) -> int:
    """Count a call and the gradient of its result for the images, weights frozen by the caller."""
    images = torch.empty(shape, device="meta", requires_grad=True)
    with _counting() as counter:
        call(images).sum().backward()
    return counter.get_total_flops()


def with_weight_gradient(call: Call, shape: tuple[int, ...], network: nn.Module) -> int:
    """Count a call and the gradients of its result for the network's trainable parameters."""
    with _counting() as counter:
        call(torch.empty(shape, device="meta")).sum().backward()
    network.zero_grad()
    return counter.get_total_flops()


def stored_bytes(network: nn.Module) -> int:
    """Return the size of the network's weights and buffers on disk."""
    return sum(t.numel() * t.element_size() for t in network.state_dict().values())


def _counting() -> FlopCounterMode:
    from torch.utils.flop_counter import FlopCounterMode  # which every job would load, and few need

    return FlopCounterMode(display=False)
