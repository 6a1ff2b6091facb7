"""Samplers: one generator function each, with one signature.

A sampler walks from `start` (the number of steps still to take) down to 0 and yields the state
after each step, so that a caller can show progress, keep checkpoints, and go on from one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance

NoiseSource = Callable[[int], Tensor]


class State(NamedTuple):
    """`steps_left` sampling steps remain; x is x_t (B, C, H, W), the sample itself when none is left."""

    steps_left: int
    x: Tensor


class Sampler(Protocol):
    """A sampler function with its `eta` given."""

    def __call__(
        self, denoiser: Denoiser, guidance: Guidance, state: State, noise: NoiseSource
    ) -> Iterator[State]: ...


def ddim(
    denoiser: Denoiser, guidance: Guidance, state: State, noise: NoiseSource, eta: float = 0.0
) -> Iterator[State]:
    """DDIM (Song et al. 2021, arXiv 2010.02502, equation 12), guided as in ADM (algorithm 2):

    eps <- eps - sqrt(1 - abar) g, where g is the guidance gradient (B, C, H, W), scale included.
    `noise(step)` is only asked for with eta > 0.
    """
    schedule = denoiser.schedule
    x = state.x
    for step in reversed(range(state.steps_left)):
        prediction, gradient = guidance(denoiser, x, step)
        eps, x0 = prediction.eps, prediction.x0
        abar = float(schedule.alphas_cumprod[step])
        previous = float(schedule.alphas_cumprod_prev[step])
        if gradient is not None:
            eps = eps - (1 - abar) ** 0.5 * gradient
            x0 = denoiser.x0_from_eps(x, eps, step)
        sigma = eta * ((1 - previous) / (1 - abar) * (1 - abar / previous)) ** 0.5
        x = previous**0.5 * x0 + (1 - previous - sigma**2) ** 0.5 * eps
        if sigma > 0 and step > 0:
            x = x + sigma * noise(step)
        yield State(step, x)


def ddpm(
    denoiser: Denoiser, guidance: Guidance, state: State, noise: NoiseSource, eta: float = 1.0
) -> Iterator[State]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2), guided as in ADM (algorithm 1):

    mean <- mean + Sigma g, where g is the guidance gradient (B, C, H, W), scale included.
    `eta` scales the noise; 1 is DDPM.
    """
    x = state.x
    for step in reversed(range(state.steps_left)):
        prediction, gradient = guidance(denoiser, x, step)
        mean = denoiser.posterior_mean(x, prediction.x0, step)
        if gradient is not None:
            mean = mean + prediction.log_variance.exp() * gradient
        x = mean
        if step > 0:
            x = x + eta * (0.5 * prediction.log_variance).exp() * noise(step)
        yield State(step, x)
