"""The hot spots of drawing: what the loop adds to its networks, and the kernels that a step takes."""

from __future__ import annotations

from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from benchmarks import ours
from benchmarks.gpu.measuring import WARM, figures
from benchmarks.gpu.rows import METHODS, Row
from benchmarks.setting import Setting
from benchmarks.timing import Stopwatch
from ppap.config.preset import Preset
from ppap.utils.mixed_precision import autocast

_SHOWN = 12


def show(preset: Preset, rows: list[Row]) -> None:
    """For each row of drawing: its step, the networks alone, and the kernels that take longest."""
    for row in rows:
        if row.work not in METHODS:
            continue
        setting = Setting(preset, row.batch).running(row.runtime)
        drawn = figures(setting, partial(ours.drawing, setting, row.work, row.guide), row.steps)
        alone = figures(setting, partial(ours.calls, setting, row.work, row.guide), row.steps)
        if drawn.failed or alone.failed:
            print(f"{row.title}: {drawn.failed or alone.failed}", flush=True)
            continue
        print(
            f"{row.title}: {drawn.seconds * 1000:.2f} ms a step of {row.batch} images, its networks "
            f"{alone.seconds * 1000:.2f} ms: {1 - alone.seconds / drawn.seconds:.1%} outside them"
        )
        print(kernels(setting, row), flush=True)


class Profiled(Stopwatch):
    """Tells a profiler of each step."""

    def __init__(self, device: torch.device, steps: int, profiler: profile) -> None:
        super().__init__(device, WARM, steps)
        self.profiler = profiler

    def tick(self) -> bool:
        self.profiler.step()
        return super().tick()


def kernels(setting: Setting, row: Row) -> str:
    """The kernels of its steps, after others to warm up, by the time that they take."""
    on_gpu = setting.device.type == "cuda"
    work = ours.drawing(setting, row.work, row.guide)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    steps_seen = schedule(wait=1, warmup=WARM, active=row.steps)
    with profile(activities=activities, schedule=steps_seen) as found, autocast(setting.preset.runtime):  # fmt: skip
        work(Profiled(setting.device, row.steps, found))
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=order, row_limit=_SHOWN))
