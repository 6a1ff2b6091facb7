"""Guided images on demand: a few, towards targets that a user names, by one guide or several at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ppap.data import datasets
from ppap.diffusion.cascade import Cascade, FirstStage, SecondStage
from ppap.diffusion.guidance import Guidance, GuideAt, Wish, together
from ppap.diffusion.trajectory import Seeds, trajectory
from ppap.errors import ConfigError
from ppap.graph import targets
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.networks.cascade import load_first_stage, load_second_stage
from ppap.preset import Preset
from ppap.preset.runs import Run
from ppap.sampling.drawing import guide_at
from ppap.sampling.targets import target_named
from ppap.tasks.task import Task


class Asked(NamedTuple):
    """What a user asks of one guide: the target in his words, and a scale if not the preset's."""

    guide: str
    target: str
    scale: float | None = None


@dataclass(frozen=True)
class Goal:
    """What was asked of a guide, understood: its task and target (1, ...), and the picture that shows it, uint8
    (1, H, W, C), if there is one."""

    asked: Asked
    task: Task
    target: Tensor
    picture: Tensor | None
    scale: float
    guide: GuideAt

    def wish(self, count: int, device: torch.device) -> Wish:
        """For a batch of this size."""
        each = self.target.to(device).expand(count, *self.target.shape[1:])
        return Wish(self.guide, self.task.objective(each), self.scale)


def default_method(preset: Preset) -> str:
    """The method that guides where the user names none: experts without labels before others and off-the-shelf guides."""

    def rank(name: str) -> int:
        taught = preset.methods[name].supervision == "teacher"
        return 0 if taught else 1 if preset.guidance(name).experts else 2

    usable = [name for name in preset.methods if _guides(preset, name)]
    if not usable:
        raise ConfigError(f"{preset.name}: has no method that guides")
    return min(usable, key=rank)


def goals(layout: Layout, asked: list[Asked], sampler: str, method: str) -> list[Goal]:
    """What was asked, with the networks loaded; ConfigError if the method does not guide, or a target is none."""
    if not _guides(layout.preset, method):
        raise ConfigError(f"methods.{method}: does not guide")
    return [_goal(layout, one, sampler, method) for one in asked]


def draw(
    layout: Layout, wanted: list[Goal], count: int, sampler: str, method: str, seed: int
) -> NDArray[np.uint8]:
    """`count` images that are guided to all goals at once: uint8 (count, H, W, C), finished ones of a cascade.

    An image depends on the seed and its place alone.
    """
    preset = layout.preset
    first = load_first_stage(layout, sampler)
    second = load_second_stage(layout) if preset.diffusion.upsampling else None
    device = runtime.device(preset.runtime)
    drawn = []
    for places in _batches(count, preset.sampling.batch_size):
        seeds = [(seed, place) for place in places]
        guidance = _guidance(preset, method, [goal.wish(len(seeds), device) for goal in wanted])
        with runtime.autocast(preset.runtime):
            x = _drawn(first, second, guidance, seeds, device)
        drawn.append(datasets.to_uint8(x))
    return np.concatenate(drawn)


def _drawn(
    first: FirstStage,
    second: SecondStage | None,
    guidance: Guidance,
    seeds: Seeds,
    device: torch.device,
) -> Tensor:
    """A batch of images in [-1, 1], with a bar that shows the steps."""
    cascade, name = Cascade(first, second), "guided images"
    start = cascade.begin(seeds, device)
    if second is None:
        states = trajectory(name, first.denoiser, first.sampler, guidance, start.state, seeds)
        *_, last = tqdm(states, name, start.state.steps_left, unit="step")
        return last.x
    both = cascade.states(name, guidance, start, seeds)
    *_, end = tqdm(both, name, cascade.steps_left(start), unit="step")
    return end.state.x


def _goal(layout: Layout, asked: Asked, sampler: str, method: str) -> Goal:
    preset, name = layout.preset, asked.guide
    network = models.load_guide(layout, name)
    target, picture = target_named(asked.target, layout, name, network)
    scale = preset.scale(sampler, name) if asked.scale is None else asked.scale
    guide = guide_at(layout, Run(sampler, name, method))
    return Goal(asked, targets.task_of(preset, name), target, picture, scale, guide)


def _guides(preset: Preset, method: str) -> bool:
    kind = preset.guidance(method)
    return kind.guided and kind.drawn


def _guidance(preset: Preset, method: str, wishes: list[Wish]) -> Guidance:
    return preset.guidance(method).build(*together(wishes))


def _batches(count: int, size: int) -> Iterator[range]:
    for first in range(0, count, size):
        yield range(first, min(first + size, count))
