"""Guided images on demand: a few, towards targets that a user names, by one guide or several at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config import Preset
from ppap.config.guidance_scales import guidance_scale
from ppap.config.runs import Run
from ppap.data import datasets
from ppap.diffusion.batch_sizes import Fitting, batch_size, fastest
from ppap.diffusion.cascade import Cascade, FirstStage, SecondStage
from ppap.diffusion.guidance import Guidance, together
from ppap.diffusion.trajectory import Seeds, trajectory
from ppap.guides.goal import Goal, wishes
from ppap.utils import runtime
from ppap.utils.errors import ConfigError
from ppap.utils.progress import Bar
from ppap.workflow import networks as models
from ppap.workflow.cascade import load_first_stage, load_second_stage
from ppap.workflow.drawing import guide_of
from ppap.workflow.layout import Layout
from ppap.workflow.target_files import target_named

NAME = "guided images"


class Asked(NamedTuple):
    """What a user asks of one guide: the target in his words, and a scale if not the preset's."""

    guide: str
    target: str
    scale: float | None = None


@dataclass(frozen=True)
class Aim:
    """What was asked of a guide, understood: the goal with its target (1, ...), and the picture that shows it, uint8
    (1, H, W, C), if there is one."""

    asked: Asked
    goal: Goal
    target: Tensor
    picture: Tensor | None


def default_method(preset: Preset) -> str:
    """The method that guides where the user names none: experts without labels before others and off-the-shelf guides."""

    def rank(name: str) -> int:
        taught = preset.methods[name].supervision == "teacher"
        return 0 if taught else 1 if preset.guidance(name).experts else 2

    usable = [name for name in preset.methods if _guides(preset, name)]
    if not usable:
        raise ConfigError(f"{preset.name}: has no method that guides")
    return min(usable, key=rank)


def aims(layout: Layout, asked: list[Asked], sampler: str, method: str) -> list[Aim]:
    """What was asked, with the networks loaded; ConfigError if the method does not guide, or a target is none."""
    if not _guides(layout.preset, method):
        raise ConfigError(f"methods.{method}: does not guide")
    return [_aim(layout, one, sampler, method) for one in asked]


def draw(
    layout: Layout, wanted: list[Aim], count: int, sampler: str, method: str, seed: int
) -> NDArray[np.uint8]:
    """`count` images that are guided to all goals at once: uint8 (count, H, W, C), finished ones of a cascade.

    An image depends on the seed and its place alone.
    """
    preset = layout.preset
    first = load_first_stage(layout, sampler)
    second = load_second_stage(layout) if preset.diffusion.upsampling else None
    device = runtime.device(preset.runtime)
    goals = [aim.goal for aim in wanted]
    targets = [goal.targets(count, preset.dataset.shape) for goal in goals]

    def states(places: range) -> tuple[Iterator[Tensor], int]:
        chosen = torch.tensor(places, device=device)
        guidance = preset.guidance(method).build(*together(wishes(goals, targets, chosen)))
        return _states(first, second, guidance, [(seed, place) for place in places], device)

    with runtime.autocast(preset.runtime):
        size = batch_size(preset)
        if isinstance(size, Fitting):
            size = fastest(lambda n: next(states(range(n))[0]), count, size, device)
        return np.concatenate([_last(*states(places)) for places in _batches(count, size)])


def _states(
    first: FirstStage,
    second: SecondStage | None,
    guidance: Guidance,
    seeds: Seeds,
    device: torch.device,
) -> tuple[Iterator[Tensor], int]:
    """x of a batch of images in [-1, 1], step by step, and the number of steps."""
    cascade = Cascade(first, second)
    start = cascade.begin(seeds, device)
    if second is None:
        one = trajectory(NAME, first.denoiser, first.sampler, guidance, start.state, seeds)
        return (state.x for state in one), start.state.steps_left
    both = cascade.states(NAME, guidance, start, seeds)
    return (reached.state.x for reached in both), cascade.steps_left(start)


def _last(states: Iterator[Tensor], steps: int) -> NDArray[np.uint8]:
    """The images of a batch, with a bar that shows the steps."""
    *_, x = Bar(states, NAME, steps, unit="step")
    return datasets.to_uint8(x)


def _aim(layout: Layout, asked: Asked, sampler: str, method: str) -> Aim:
    preset, name = layout.preset, asked.guide
    network = models.load_guide(layout, name)
    target, picture = target_named(asked.target, layout, name, network)
    scale = guidance_scale(preset, sampler, name) if asked.scale is None else asked.scale
    guide = guide_of(layout, Run(sampler, name, method))
    return Aim(asked, Goal(guide, target, scale), target, picture)


def _guides(preset: Preset, method: str) -> bool:
    kind = preset.guidance(method)
    return kind.guided and kind.drawn


def _batches(count: int, size: int) -> Iterator[range]:
    for first in range(0, count, size):
        yield range(first, min(first + size, count))
