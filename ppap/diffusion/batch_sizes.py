"""The size of a batch that fits into memory: the largest is tried first, and halved while memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch

from ppap.utils.settings import Count

_T = TypeVar("_T")
_MOST = 256
_ON_CPU = 16  # a processor draws larger batches hardly faster
AnySize = Count | Literal["auto"]


class BatchSize:
    """The number of images in a batch: as given, or with "auto" what a GPU's memory holds."""

    def __init__(self, wanted: AnySize, most: int, device: torch.device) -> None:
        self.halves = wanted == "auto"
        automatic = _MOST if device.type == "cuda" else _ON_CPU
        self.images = min(automatic, most) if wanted == "auto" else wanted

    def fitting(self, draw: Callable[[int], _T]) -> _T:
        """Return the result of `draw(n)` for the first n that fits; OutOfMemoryError if none does, or n is given."""
        while True:
            try:
                return draw(self.images)
            except torch.OutOfMemoryError:
                if not self.halves or self.images == 1:
                    raise
            self.images //= 2
            torch.cuda.empty_cache()  # the error, and what it held, are gone by now
