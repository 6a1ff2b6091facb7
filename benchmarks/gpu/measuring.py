"""One row measured: ours, what its share of the matrix rate is, and the plain loop beside it."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from typing import Protocol

import torch

from benchmarks import counted, ours, plain
from benchmarks.gpu.rows import FORWARD, METHODS, OWN, TRAINING, Row
from benchmarks.gpu.table import Figures, Measured
from benchmarks.setting import Setting, timed
from benchmarks.timing import Stopwatch, Work, forget_peak, peak_memory
from ppap.config.preset import Preset
from ppap.utils.device import Runtime

WARM = 3


def matrix_rate(dtype: torch.dtype, side: int) -> float:
    """Operations a second of a product of square matrices, the best of a few."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    watch = Stopwatch(device, warm=5, steps=10, laps=5)
    while not watch.tick():
        torch.mm(a, b, out=out)
    return 2 * side**3 / watch.seconds


class Bench:
    """Measures rows of a preset; of the plain loop, and of operations, each once."""

    def __init__(self, preset: Preset, rate: float) -> None:
        self.preset, self.rate = preset, rate
        self._plain: dict[tuple[str, str, str, int], Figures] = {}
        self._flops: dict[tuple[str, str], int] = {}

    def measured(self, row: Row) -> Measured:
        setting = Setting(self.preset, row.batch).running(row.runtime)
        mine = figures(setting, lambda: _work(ours, row, setting), row.steps)
        theirs = self._plainly(row)
        share = 0.0
        if not mine.failed:
            share = self._counted(row) * row.batch / mine.seconds / self.rate
        return Measured(row, mine, theirs, share, _outside(row, setting, mine))

    def _plainly(self, row: Row) -> Figures:
        """The plain loop in the same precision, with no other option."""
        key = (row.work, row.guide, row.runtime.precision, row.batch)
        if key not in self._plain:
            how = Runtime(precision=row.runtime.precision)
            setting = Setting(self.preset, row.batch).running(how)
            self._plain[key] = figures(setting, lambda: _work(plain, row, setting), row.steps)
        return self._plain[key]

    def _counted(self, row: Row) -> int:
        """Operations of a step for an image."""
        key = (row.work, row.guide)
        if key not in self._flops:
            self._flops[key] = _flops(row, self.preset)
        return self._flops[key]


def figures(setting: Setting, new_work: Callable[[], Work], steps: int) -> Figures:
    """Measure a step, and say in words if it fails."""
    forget_peak(setting.device)
    try:
        seconds = timed(setting, new_work(), WARM, steps)
        return Figures(seconds, peak_memory(setting.device))
    except torch.OutOfMemoryError:
        return Figures(failed="out of memory")
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Figures(failed=f"fails: {type(error).__name__}")
    finally:
        gc.collect()


class _Side(Protocol):
    """Who does the work: the module `ours`, or `plain`."""

    def forward(self, setting: Setting) -> Work: ...

    def drawing(self, setting: Setting, kind: str, guide: str, /) -> Work: ...

    def training(self, setting: Setting, guide: str) -> Work: ...


def _work(side: _Side, row: Row, setting: Setting) -> Work:
    if row.work == FORWARD:
        return side.forward(setting)
    if row.work == TRAINING:
        return side.training(setting, row.guide)
    return side.drawing(setting, row.work, row.guide)


def _flops(row: Row, preset: Preset) -> int:
    if row.work == TRAINING:
        return counted.of_training(preset, row.guide)
    return counted.of_drawing(preset, "none" if row.work == FORWARD else row.work, row.guide)


def _outside(row: Row, setting: Setting, mine: Figures) -> float | None:
    """The share of a step of drawing that is not the networks', with the preset's own options."""
    if row.work not in METHODS or row.options != OWN or mine.failed:
        return None
    alone = figures(setting, lambda: ours.calls(setting, row.work, row.guide), row.steps)
    return None if alone.failed else 1 - alone.seconds / mine.seconds
