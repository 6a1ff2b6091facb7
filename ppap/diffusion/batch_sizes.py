"""The size of a batch, found by trying: the fastest of those that fit into memory."""

from __future__ import annotations

import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from ppap.config import Preset

_SHARE = 0.9
"""Of the memory that is free: what else allocates on a GPU has the rest."""

_FASTER = 1.05
_PATIENCE = 2  # sizes in a row that are no faster, after which no larger one is tried
_LONG = 1.0  # seconds of a step after which it is not repeated to be timed warm


class Fitting(NamedTuple):
    """A size to be found: of a batch that fits into the GPU's free memory, or into `mem_mb` of the processor's."""

    mem_mb: int


def batch_size(preset: Preset) -> int | Fitting:
    """Of samples, as the preset has it; what is to be found, within the memory that its jobs ask for."""
    size = preset.sampling.batch_size
    return Fitting(preset.resources.sample.mem_mb) if size == "auto" else size


def fastest(step: Callable[[int], object], most: int, wanted: Fitting, device: torch.device) -> int:
    """The number of images, up to `most`, in the batch that draws the most a second.

    `step(n)` takes one step with a batch of n images. Sizes are doubled while the next one can be expected to fit.
    OutOfMemoryError if not even one image fits into a GPU; one is always tried.
    """
    meter: _Meter = _OfGPU(device) if device.type == "cuda" else _OfProcess(wanted.mem_mb)
    best, rate, slower = 1, 0.0, 0
    for size in _doubled(most):
        if (size > 1 and not meter.expects_to_fit(size)) or slower == _PATIENCE:
            break
        meter.release()  # a trial's memory is its own
        try:
            reached = size / _seconds(step, size, meter)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            break
        meter.note(size)
        if reached > rate * _FASTER:
            best, rate, slower = size, reached, 0
        else:
            slower += 1
    meter.release()
    return best


def _doubled(most: int) -> Iterator[int]:
    size = 1
    while size < most:
        yield size
        size *= 2
    yield most


def _seconds(step: Callable[[int], object], size: int, meter: _Meter) -> float:
    """Of a step, warmed up by one before it unless that took long."""
    first = _timed(step, size, meter)
    return first if first > _LONG else _timed(step, size, meter)


def _timed(step: Callable[[int], object], size: int, meter: _Meter) -> float:
    start = time.perf_counter()
    step(size)
    meter.wait()
    return time.perf_counter() - start


class _Meter(ABC):
    """Memory: what is held by networks, what a step adds at its peak, and what there is."""

    def __init__(self, held: int, there: int) -> None:
        self.held, self.there = held, there
        self._size, self._peak = 1, held

    @abstractmethod
    def peak(self) -> int:
        """The most bytes that were held so far."""

    @abstractmethod
    def wait(self) -> None:
        """Until the device has done what it was given."""

    @abstractmethod
    def release(self) -> None:
        """What trials leave behind."""

    def note(self, size: int) -> None:
        """What a step with so many images took."""
        self._size, self._peak = size, self.peak()

    def expects_to_fit(self, size: int) -> bool:
        """A step's memory grows with its images."""
        return self.held + (self._peak - self.held) * size / self._size <= self.there


class _OfGPU(_Meter):
    def __init__(self, device: torch.device) -> None:
        self.device = device
        torch.cuda.empty_cache()
        held, free = torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[0]
        super().__init__(held, held + int(_SHARE * free))

    def peak(self) -> int:
        return torch.cuda.max_memory_reserved(self.device)

    def wait(self) -> None:
        torch.cuda.synchronize(self.device)

    def release(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)


class _OfProcess(_Meter):
    def __init__(self, mem_mb: int) -> None:
        super().__init__(_bytes("VmRSS", 0), mem_mb * 1_000_000)

    def peak(self) -> int:
        unit = 1 if sys.platform == "darwin" else 1024
        return _bytes("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

    def wait(self) -> None:
        """A processor has done its work when it returns."""

    def release(self) -> None:
        """Nothing: what is freed is taken up again."""


def _bytes(field: str, otherwise: int) -> int:
    """Memory of this process as Linux tells it: its own, where `getrusage` begins with its parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return otherwise
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
