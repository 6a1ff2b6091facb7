"""Samples of a diffusion model, guided or not, all at once or step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.diffusion.batches import Drawing, draw
from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.guidance import Guidance, NoGuidance, NoisyInputGuidance, X0Gradient, together
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.sampler_kinds import SAMPLERS
from ppap.diffusion.samplers import Sampler
from ppap.diffusion.trajectory import Seeds, noise_state, trajectory
from ppap.guides.goal import Goal, wishes
from ppap.utils.checkpoint import Unkept
from ppap.utils.errors import ConfigError


class SamplingStep(NamedTuple):
    """One step of the reverse process, each tensor (B, C, H, W).

    At `timestep` the networks saw `x_t`, and in it the clean image `x0_hat`; the `gradient` of guidance, scale
    included, is None without goals. `x` is what the step made of x_t; after the last one, the samples.
    """

    timestep: int
    x_t: Tensor
    x0_hat: Tensor
    gradient: Tensor | None
    x: Tensor


def sample(
    model: DiffusionModel,
    count: int,
    goals: Sequence[Goal] = (),
    *,
    sampler: str = "ddim",
    steps: int = 25,
    eta: float = 0.0,
    x0_gradient: bool = False,
    seed: int = 0,
    batch_size: int = 64,
) -> NDArray[np.uint8]:
    """Draw `count` images, uint8 (count, H, W, C), guided to all `goals` at once; without goals, freely.

    The sampler is "ddim", with noise if `eta` > 0, or "ddpm". Guides see x_t (paper, equations 5 and 6); with
    `x0_gradient` they see the one-step estimate of x_0, and the gradient goes through the diffusion network too
    (paper, section 3). An image depends on the seed and its place alone, not on `batch_size`. Networks run where
    their weights are, in the precision of the autocast around the call. ConfigError for a sampler, steps or targets
    that cannot be; NumericalError if a sample is not finite.
    """
    chosen = _Chosen.of(model, sampler, steps, eta)
    targets = [goal.targets(count, model.shape) for goal in goals]

    def guidance(places: Tensor) -> Guidance:
        return _guidance(goals, targets, places, x0_gradient)

    drawing = Drawing(
        name="samples",
        seeds=_seeds(seed, count),
        targets=torch.arange(count),
        shape=model.shape,
        batch_size=batch_size,
        checkpoint=Unkept(),
        checkpoint_every=steps,
    )
    return draw(drawing, chosen.denoiser, chosen.sampler, guidance, model.device)


def sampling_steps(
    model: DiffusionModel,
    count: int,
    goals: Sequence[Goal] = (),
    *,
    sampler: str = "ddim",
    steps: int = 25,
    eta: float = 0.0,
    x0_gradient: bool = False,
    seed: int = 0,
) -> Iterator[SamplingStep]:
    """The steps, from noise to images, by which `sample` draws the same images in one batch."""
    chosen = _Chosen.of(model, sampler, steps, eta)
    targets = [goal.targets(count, model.shape) for goal in goals]
    places = torch.arange(count, device=model.device)
    watched = _Watched(_guidance(goals, targets, places, x0_gradient))
    seeds = _seeds(seed, count)
    start = noise_state(chosen.denoiser, seeds, model.shape, model.device)
    states = trajectory("samples", chosen.denoiser, chosen.sampler, watched, start, seeds)
    timesteps = chosen.denoiser.schedule.timesteps
    for state in states:
        x_t, prediction, gradient = watched.last
        yield SamplingStep(timesteps[state.steps_left], x_t, prediction.x0, gradient, state.x)


@dataclass(frozen=True)
class _Chosen:
    """A model on the schedule of a sampler, and the sampler."""

    denoiser: Denoiser
    sampler: Sampler

    @classmethod
    def of(cls, model: DiffusionModel, sampler: str, steps: int, eta: float) -> _Chosen:
        kind = SAMPLERS.get(sampler)
        kept = kind.timesteps(model.schedule.train_timesteps, steps)
        return cls(model.on(model.schedule.keeping(kept)), kind.build(_Settings(eta)))


class _Settings(NamedTuple):
    eta: float


class _Watched:
    """A guidance that remembers what it saw and said."""

    last: tuple[Tensor, Prediction, Tensor | None]

    def __init__(self, guidance: Guidance) -> None:
        self.guidance = guidance

    def __call__(
        self, denoiser: Denoiser, x: Tensor, step: int
    ) -> tuple[Prediction, Tensor | None]:
        prediction, gradient = self.guidance(denoiser, x, step)
        self.last = (x, prediction, gradient)
        return prediction, gradient


def _guidance(
    goals: Sequence[Goal], targets: Sequence[Tensor], places: Tensor, x0_gradient: bool
) -> Guidance:
    if not goals:
        return NoGuidance()
    kind = X0Gradient if x0_gradient else NoisyInputGuidance
    return kind(*together(wishes(goals, targets, places)))


def _seeds(seed: int, count: int) -> Seeds:
    if count < 1:
        raise ConfigError(f"{count} images: one at least can be drawn")
    return [(seed, place) for place in range(count)]
