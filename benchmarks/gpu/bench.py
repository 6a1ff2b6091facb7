"""The measuring, row by row, until the time is up."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu import profile
from benchmarks.gpu.measuring import Bench, matrix_rate
from benchmarks.gpu.rows import OWN, Row, Sizes, options, rows
from benchmarks.gpu.table import Table
from benchmarks.timing import where
from ppap.config import reading as presets
from ppap.config.preset import Preset

_LAST = 15
"""Seconds before the end in which no row is begun."""


class OutOfTime(BaseException):
    """The time is up, and a row not measured."""


def run(arguments: argparse.Namespace, measured: Path) -> None:
    """Measure all rows, or profile the methods, and write the table."""
    end = time.monotonic() + 60 * arguments.minutes
    small, out = arguments.small, arguments.out
    if not (small or torch.cuda.is_available()):
        sys.exit("torch sees no GPU; --small tries the benchmark without one")
    torch.set_num_threads(1)
    preset = _small_preset() if small else presets.load(arguments.preset)
    sizes = Sizes(4, 8, 2, 2) if small else Sizes(arguments.batch, arguments.training_batch, 25, 8)
    if arguments.profile:
        profile.show(preset, rows(preset, [OWN], sizes))
        return
    side = 256 if small else 8192
    rates = {dtype: matrix_rate(dtype, side) for dtype in (torch.bfloat16, torch.float32)}
    table = Table(_head(rates, side), out if small else out or measured)
    bench = Bench(preset, rates[torch.bfloat16])
    _fill(table, bench, rows(preset, _chosen(arguments), sizes), end)


def _small_preset() -> Preset:
    """Tiny networks, but not so tiny that feature maps have one pixel.

    On a CPU, torch's convolutions in bfloat16 and channels_last have gradients of stray memory there (2.15).
    """
    preset = presets.load("tests/smoke.yaml")
    larger = preset.guides["resnet"].model_copy(update={"input_size": 32})
    return preset.model_copy(update={"guides": {**preset.guides, "resnet": larger}})


def _fill(table: Table, bench: Bench, wanted: list[Row], end: float) -> None:
    done = 0
    try:
        with _until(end):
            for row in wanted:
                if time.monotonic() > end - _LAST:
                    break
                table.add(bench.measured(row))
                done += 1
    except OutOfTime:
        pass
    left = wanted[done:]
    if left:
        table.end(_left_out(left))


def _left_out(left: list[Row]) -> str:
    said = f"the last {len(left)} rows, from" if len(left) > 1 else "the last row:"
    return f"Not measured, since the time was up: {said} {left[0].title} ({left[0].options})."


@contextmanager
def _until(end: float) -> Iterator[None]:
    """OutOfTime at the end, whatever is at work."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, end - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """The options to measure; in small none that takes a minute to compile, unless asked for."""
    known = options()
    if arguments.options is None:
        return [name for name, how in known.items() if not (arguments.small and how.compile)]
    if unknown := set(arguments.options) - known.keys():
        sys.exit(f"--options: '{min(unknown)}' is none of {', '.join(map(repr, known))}")
    return list(arguments.options)


def _head(rates: dict[torch.dtype, float], side: int) -> str:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    named = {str(dtype).removeprefix("torch."): rate / 1e12 for dtype, rate in rates.items()}
    measured = ", ".join(f"{rate:.1f} TFLOP/s in {name}" for name, rate in named.items())
    return (
        f"{where(device)}, torch {torch.__version__}, {datetime.date.today()}. "
        f"Matrix rate, measured with `torch.mm` of {side}x{side} matrices: {measured}."
    )
