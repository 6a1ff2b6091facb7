"""Time and memory of work that is done step by step, on a CPU or a GPU."""

from __future__ import annotations

import platform
import re
import resource
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import torch


def now(device: torch.device) -> float:
    """Seconds, once all that was begun on the device is done.

    On a CPU those that the processor worked, which other programs on the machine change little: for one thread.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def where(device: torch.device) -> str:
    """Return the device's name, and how many threads work on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", about.read_text()) if about.exists() else None
    model = named[1] if named else platform.processor()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model} ({capability}), {torch.get_num_threads()} thread(s)"


def forget_peak(device: torch.device) -> None:
    """Count the peak of a GPU's memory anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: of tensors on a GPU since `forget_peak`; on a CPU of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stopwatch:
    """The time of a step: `warm` steps go by, then `steps` are timed together, `laps` times over."""

    def __init__(self, device: torch.device, warm: int, steps: int, laps: int = 1) -> None:
        self.device, self.warm, self.steps, self.laps = device, warm, steps, laps
        self._ticks, self._marks = 0, list[float]()

    @property
    def needed(self) -> int:
        """Return how many steps must be begun until all is measured."""
        return self.warm + self.steps * self.laps + 1

    def tick(self) -> bool:
        """Called as each step begins; whether all is measured."""
        timed = self._ticks - self.warm
        if timed >= 0 and timed % self.steps == 0:
            self._marks.append(now(self.device))
        self._ticks += 1
        return self._ticks >= self.needed

    @property
    def seconds(self) -> float:
        """Return the time of a step, in the best lap."""
        return min(later - before for before, later in pairwise(self._marks)) / self.steps


Work = Callable[[Stopwatch], None]
"""Work that goes on, ticking as each of its steps begins, until the stopwatch has measured all."""


def stepwise(steps: Iterable[object], watch: Stopwatch) -> None:
    """Take steps until all is measured."""
    for _ in steps:
        if watch.tick():
            return


def best_of(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Seconds of the fastest of a few calls, after one to warm up."""

    watch = Stopwatch(device, warm=1, steps=1, laps=repeats)
    while not watch.tick():
        work()
    return watch.seconds
