"""The setting of a measurement: a preset, how its networks run, and how many images at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import Stopwatch, Work
from ppap.config.preset import Preset
from ppap.diffusion.sampling import Seeds
from ppap.experts.examples import Batch
from ppap.utils.device import Runtime, device_of
from ppap.utils.mixed_precision import autocast

SCALE = 7.5
"""Of guidance, as in the paper."""


class Setting(NamedTuple):
    """A preset, whose `runtime` says how its networks run, and the number of images at a time."""

    preset: Preset
    batch: int

    def running(self, how: Runtime) -> Setting:
        """The same, its networks run in another way."""
        return Setting(self.preset.model_copy(update={"runtime": how}), self.batch)

    @property
    def device(self) -> torch.device:
        return device_of(self.preset.runtime)

    @property
    def seeds(self) -> Seeds:
        return [(0, index) for index in range(self.batch)]

    @property
    def classes(self) -> Tensor:
        """The targets of guidance."""
        return torch.arange(self.batch, device=self.device) % self.preset.dataset.classes

    def examples(self) -> Batch:
        """A batch of random images, and random answers of a teacher, on the device."""
        data = self.preset.dataset
        images = torch.rand(self.batch, *data.shape, device=self.device) * 2 - 1
        return Batch(images, torch.randn(self.batch, data.classes, device=self.device))


def timed(setting: Setting, work: Work, warm: int, steps: int, laps: int = 1) -> float:
    """Seconds of a step of work, in the setting's precision."""
    watch = Stopwatch(setting.device, warm, steps, laps)
    if setting.preset.runtime.compile:
        torch.compiler.reset()  # it gives up after a few networks of the same code
    with autocast(setting.preset.runtime):
        work(watch)
    return watch.seconds
