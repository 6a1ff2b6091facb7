"""Batches read by torch's DataLoader: large ones by worker processes, ahead of the work; small ones on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ppap.utils.errors import DataError

LARGE = 1 << 20
"""Bytes of a batch from which on it is worth a worker process: gathering it takes about a millisecond."""
_WORKERS = 2
"""Readers side by side: a disk serves two in less than twice the time."""


class Images(Protocol):
    """uint8 images (N, H, W, C), or float latents (N, c, h, w), of which only those that are taken need be in memory."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> NDArray[Any]: ...


class ImagesInMemory:
    """An array as `Images`."""

    def __init__(self, images: NDArray[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> NDArray[Any]:
        return self.images[indices.numpy()]


def batches(images: Images, indices: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the images at each batch of indices, (B, ...), on the device.

    DataError, in the turn of its batch, if images cannot be read.
    """
    workers = workers_for(images, max(map(len, indices), default=0))
    read = load(lambda chosen: torch.from_numpy(images.take(chosen)), indices, device, workers)
    return (batch.to(device, non_blocking=True) for batch in read)


def workers_for(images: Images, batch_size: int) -> int:
    """Return how many worker processes batches of this size are worth."""
    return _WORKERS if batch_size * images.take(torch.tensor([0])).nbytes >= LARGE else 0


def load(read: Callable[[Any], Any], requests: Iterable[Any], device: torch.device, workers: int) -> Iterator[Any]:
    """Yield what `read` makes of each request, in order; in pinned memory if the device is a GPU.

    Worker processes, if there are any, read some requests ahead. No random numbers are drawn. DataError, in the turn
    of its request, if `read` raises it.
    """
    forks = workers > 0 and sys.platform == "linux"  # elsewhere all images would be copied to each worker
    loader = DataLoader(
        _Requests(read),
        batch_size=None,  # each request is for a whole batch
        sampler=requests,
        num_workers=workers if forks else 0,
        multiprocessing_context="fork" if forks else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or the seed of workers would be drawn from the global one
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Requests(Dataset[Any]):
    """The requests of a reader, and their results. A DataError is returned: a worker would bury it in a traceback."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __getitem__(self, request: Any) -> Any:
        try:
            return self.read(request)
        except DataError as error:
            return error
