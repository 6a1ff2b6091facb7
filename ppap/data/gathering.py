"""Batches of images, gathered from where they are kept while the ones before are at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.utils.overlap import ahead


class Images(Protocol):
    """uint8 (N, H, W, C), of which only those that are taken need to be in memory."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> NDArray[np.uint8]: ...


class ImagesInMemory:
    """An array as `Images`."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> NDArray[np.uint8]:
        return self.images[indices.numpy()]


@contextmanager
def read_ahead(
    images: Images, batches: Sequence[Tensor], device: torch.device
) -> Iterator[Iterator[Tensor]]:
    """The images of each batch of indices, uint8 (B, H, W, C), on the device. What `take` raises comes in its turn."""

    def gather(batch: int) -> Tensor:
        return pinned(torch.from_numpy(images.take(batches[batch])), device)

    with ahead(gather, len(batches)) as gathered:
        yield (gathered(n).to(device, non_blocking=True) for n in range(len(batches)))


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor, in memory that a GPU copies from by itself, if the device is one."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
