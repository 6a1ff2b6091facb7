"""The sampling loop: a batch's states from noise to images, for clean images, guided samples and figures alike."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance
from ppap.diffusion.samplers import Sampler, State
from ppap.utils.errors import NumericalError
from ppap.utils.seeds import StepNoise, initial_noise

Seeds = list[tuple[int, int]]
"""A (seed of the run, index) for each image."""


def noise_state(
    denoiser: Denoiser, seeds: Seeds, shape: tuple[int, int, int], device: torch.device
) -> State:
    """Where sampling starts: x_T of each image, (len(seeds), *shape), with all steps left."""
    return State(len(denoiser.schedule), initial_noise(seeds, shape).to(device))


def trajectory(
    name: str,
    denoiser: Denoiser,
    sampler: Sampler,
    guidance: Guidance,
    state: State,
    seeds: Seeds,
) -> Iterator[State]:
    """The states that follow `state`, the images last.

    An image depends on its own seed, not on its batch, nor on the state that is begun with. NumericalError,
    with the name of what is drawn and the timestep, if one is not finite.
    """
    noise = StepNoise(seeds, tuple(state.x.shape[1:]), state.x.device)
    for reached in sampler(denoiser, guidance, state, noise):
        if not torch.isfinite(reached.x).all():
            t = denoiser.schedule.timesteps[reached.steps_left]
            raise NumericalError(f"{name}: a sample is not finite at timestep {t}")
        yield reached
