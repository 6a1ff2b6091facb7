"""Floating-point operations of networks, counted by PyTorch on the meta device: nothing is computed.

A multiply-add counts as two operations, as in a GPU's peak rate. Convolutions, matrix products and
attention are counted; element-wise work, normalisation and resizing are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
Call = Callable[[Tensor], Tensor]
"""A network as a function of its images (B, C, H, W)."""


def on_meta(build: Callable[[], T]) -> T:
    """What `build` makes, with shapes but no memory behind its tensors."""
    with torch.device("meta"):
        return build()


def forward(call: Call, shape: tuple[int, ...]) -> int:
    """FLOPs of a call with images of this shape."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(_images(shape))
    return counter.get_total_flops()


def of_call(call: Callable[[], T]) -> tuple[int, T]:
    """FLOPs of a call, and what it returns."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = call()
    return counter.get_total_flops(), found


def with_input_gradient(call: Call, shape: tuple[int, ...]) -> int:
    """FLOPs of a call and the gradient of its result for the images, weights frozen by the caller."""
    images = _images(shape).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        call(images).sum().backward()
    return counter.get_total_flops()


def with_weight_gradient(call: Call, shape: tuple[int, ...], network: nn.Module) -> int:
    """FLOPs of a call and the gradients of its result for the network's trainable parameters."""
    with FlopCounterMode(display=False) as counter:
        call(_images(shape)).sum().backward()
    network.zero_grad()
    return counter.get_total_flops()


def stored_bytes(network: nn.Module) -> int:
    """Size of the network's weights and buffers on disk."""
    return sum(t.numel() * t.element_size() for t in network.state_dict().values())


def _images(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, device="meta")
