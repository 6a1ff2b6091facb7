"""Cascades (Ho et al. 2021, arXiv 2106.15282): images drawn small, and drawn anew, larger, by a second diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Network
from ppap.diffusion.guidance import Guidance, NoGuidance
from ppap.diffusion.samplers import Sampler, State
from ppap.diffusion.schedules import Schedule, VarianceName
from ppap.diffusion.trajectory import Seeds, noise_state, trajectory
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import upsampling_seeds

Shape = tuple[int, int, int]
"""Of an image: channels, height, width."""


@dataclass(frozen=True)
class FirstStage:
    """The diffusion model of small images; it alone is guided."""

    denoiser: Denoiser
    sampler: Sampler
    shape: Shape


@dataclass(frozen=True)
class SecondStage:
    """The diffusion model of large images.

    `upsampling` is its network(x_t, t) for small images (B, C, h, w) in [-1, 1]; `temperature` is a factor of x_T.
    """

    upsampling: Callable[[Tensor], Network]
    schedule: Schedule
    variance: VarianceName
    sampler: Sampler
    shape: Shape
    temperature: float = 1.0

    def denoiser(self, low_res: Tensor) -> Denoiser:
        return Denoiser(self.upsampling(low_res), self.schedule, self.variance)


class CascadeState(NamedTuple):
    """The state of the stage at work; `low_res` is None in the first, and in the second what it enlarges."""

    state: State
    low_res: Tensor | None = None


@dataclass(frozen=True)
class Cascade:
    """Both stages. One that is not asked for may be missing: images that are there already need no first."""

    first: FirstStage | None
    second: SecondStage | None

    def begin(self, seeds: Seeds, device: torch.device) -> CascadeState:
        """Where the first stage starts: x_T of each image."""
        first = self._first()
        return CascadeState(noise_state(first.denoiser, seeds, first.shape, device))

    def begin_upsampling(self, images: Tensor, seeds: Seeds) -> CascadeState:
        """Where the second stage starts, from images (B, C, h, w) in [-1, 1] as 8 bits hold them."""
        second = self._second()
        low_res = eight_bits(images)
        start = noise_state(
            second.denoiser(low_res), upsampling_seeds(seeds), second.shape, images.device
        )
        return CascadeState(start._replace(x=second.temperature * start.x), low_res)

    def states(
        self, name: str, guidance: Guidance, at: CascadeState, seeds: Seeds
    ) -> Iterator[CascadeState]:
        """The states that follow `at`, of the first stage and of the second; the last x are the large images.

        An image depends on its own seed, not on its batch, nor on the state that is begun with. Errors as of
        `trajectory`; ConfigError if a stage is missing.
        """
        second = self._second()
        if at.low_res is None:
            first = self._first()
            for state in trajectory(name, first.denoiser, first.sampler, guidance, at.state, seeds):
                at = CascadeState(state)
                yield at
            at = self.begin_upsampling(at.state.x, seeds)
        assert at.low_res is not None
        own = upsampling_seeds(seeds)
        denoiser = second.denoiser(at.low_res)
        for state in trajectory(
            f"{name}, upsampled", denoiser, second.sampler, NoGuidance(), at.state, own
        ):
            yield CascadeState(state, at.low_res)

    def steps_left(self, at: CascadeState) -> int:
        """Sampling steps from a state to the large images."""
        rest = len(self._second().schedule) if at.low_res is None else 0
        return at.state.steps_left + rest

    def _first(self) -> FirstStage:
        if self.first is None:
            raise ConfigError("the cascade lacks its first stage, which draws small images")
        return self.first

    def _second(self) -> SecondStage:
        if self.second is None:
            raise ConfigError("the cascade lacks its second stage, which upsamples")
        return self.second


def eight_bits(x: Tensor) -> Tensor:
    """Images in [-1, 1] as they are once stored in 8 bits; values beyond are clipped."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
