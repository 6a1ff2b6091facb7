"""The reverse process of guided samples, with what guides them at hand: what a guide says and asks for on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ppap.config.guidance_scales import guidance_scale
from ppap.config.runs import Run
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance, GuideAt
from ppap.diffusion.samplers import Sampler, State
from ppap.diffusion.trajectory import Seeds, noise_state, trajectory
from ppap.guides.tasks.task import Task
from ppap.utils import runtime
from ppap.workflow import targets
from ppap.workflow.drawing import guide_at
from ppap.workflow.layout import Layout


@dataclass(frozen=True)
class ReverseProcess:
    """Samples of a run from x_T to x_0, guided to `wanted` (B, ...), a (seed, index) each."""

    denoiser: Denoiser
    sampler: Sampler
    guidance: Guidance
    guide: GuideAt
    task: Task
    wanted: Tensor
    start: State
    seeds: Seeds

    @classmethod
    def of(cls, layout: Layout, run: Run, denoiser: Denoiser, numbers: Tensor, seed: int) -> Self:
        """The first samples of a sampling seed, guided to the targets with these numbers (B,)."""
        preset, device = layout.preset, runtime.device(layout.preset.runtime)
        guide, task = guide_at(layout, run), targets.task_of(preset, run.guide)
        wanted = targets.taker(layout, run.guide)(numbers.to(device))
        scale = guidance_scale(preset, run.sampler, run.guide)
        seeds = [(seed, index) for index in range(len(numbers))]
        return cls(
            denoiser,
            preset.sampler(run.sampler).build(preset.samplers[run.sampler]),
            preset.guidance(run.method).build(guide, task.objective(wanted), scale),
            guide,
            task,
            wanted,
            noise_state(denoiser, seeds, preset.dataset.shape, device),
            seeds,
        )

    def states(self, name: str) -> Iterator[State]:
        """x_T, and every state after it; the last is x_0. `name` is what errors call the samples."""
        after = trajectory(name, self.denoiser, self.sampler, self.guidance, self.start, self.seeds)
        return itertools.chain([self.start], after)

    def timestep(self, state: State) -> int:
        """The t of a state that is not the last."""
        return self.denoiser.schedule.timesteps[state.steps_left - 1]

    @torch.no_grad()
    def belief(self, state: State) -> Tensor:
        """How far the guide believes, of x_t, that the targets are met: (B,), as its task has it."""
        answers = self.guide(state.x, self.timestep(state)).float()
        return self.task.belief(answers, self.wanted)

    def gradient(self, state: State) -> Tensor:
        """What guidance adds at x_t, like x_t, its scale included."""
        _, gradient = self.guidance(self.denoiser, state.x, state.steps_left - 1)
        assert gradient is not None
        return gradient
