"""Samplers: one generator function each, with one signature, and their facts as the function's attributes.

A sampler walks from `start` (the number of steps still to take) down to 0 and yields the state
after each step, so that a caller can show progress, keep checkpoints, and go on from one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import GuidanceCall
from ppap.diffusion.schedules import Array, Levels, Schedule, ddim_timesteps, ddpm_timesteps, trailing_timesteps
from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry

NoiseSource = Callable[[int], Tensor]


class State(NamedTuple):
    """`steps_left` sampling steps remain; x is x_t (B, C, H, W), the sample itself when none is left."""

    steps_left: int
    x: Tensor


class Sampler(Protocol):
    """A sampler function, and what the rest of the package knows of it.

    A function of the user's own states these attributes where they differ from the defaults of `with_facts`.
    """

    timesteps: Callable[[int, int], Sequence[int]]
    """The timesteps it keeps, increasing, of T and the number of steps."""
    eta: float | None
    """The amount of noise that it adds; None: as it is told."""

    def __call__(
        self, denoiser: Denoiser, guidance: GuidanceCall, state: State, noise: NoiseSource, eta: float = ...
    ) -> Iterator[State]: ...


def with_facts(
    timesteps: Callable[[int, int], Sequence[int]] = ddpm_timesteps, eta: float | None = None
) -> Callable[[Callable[..., Iterator[State]]], Sampler]:
    """Make a sampler of a generator function: it has these facts as its attributes from now on."""

    def sampler(function: Any) -> Sampler:
        function.timesteps, function.eta = timesteps, eta
        return cast(Sampler, function)

    return sampler


@with_facts(ddim_timesteps)
def ddim(
    denoiser: Denoiser, guidance: GuidanceCall, state: State, noise: NoiseSource, eta: float = 0.0
) -> Iterator[State]:
    """Sample by DDIM (Song et al. 2021, arXiv 2010.02502, equation 12), guided as in ADM (algorithm 2):

    eps <- eps - sqrt(1 - abar) g, where g is the guidance gradient (B, C, H, W), scale included.
    `noise(step)` is only asked for with eta > 0.
    """
    schedule = denoiser.schedule
    reached = schedule.alphas_cumprod_prev if schedule.reached is None else schedule.reached
    x = state.x
    for step in reversed(range(state.steps_left)):
        prediction, gradient = guidance(denoiser, x, step)
        eps, x0 = prediction.eps, prediction.x0
        abar, previous = float(schedule.alphas_cumprod[step]), float(reached[step])
        if gradient is not None and abar > 0:  # of pure noise a guide can say nothing
            eps = eps - (1 - abar) ** 0.5 * gradient
            x0 = denoiser.x0_from_eps(x, eps, step)
        sigma = eta * max((1 - previous) / (1 - abar) * (1 - abar / previous), 0) ** 0.5
        x = previous**0.5 * x0 + max(1 - previous - sigma**2, 0) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * noise(step)
        yield State(step, x)


@with_facts(ddpm_timesteps, eta=1.0)
def ddpm(
    denoiser: Denoiser, guidance: GuidanceCall, state: State, noise: NoiseSource, eta: float = 1.0
) -> Iterator[State]:
    """Sample by DDPM (Ho et al. 2020, algorithm 2), guided as in ADM (algorithm 1):

    mean <- mean + Sigma g, where g is the guidance gradient (B, C, H, W), scale included.
    `eta` scales the noise; 1 is DDPM.
    """
    x = state.x
    for step in reversed(range(state.steps_left)):
        prediction, gradient = guidance(denoiser, x, step)
        mean = denoiser.posterior_mean(x, prediction.x0, step)
        certain = step == 0 and denoiser.variance == "fixed_small"  # the log-variance there is clipped, that of 0
        if gradient is not None and not certain:
            mean = mean + prediction.log_variance.exp() * gradient
        x = mean
        if step > 0:
            x = x + eta * (0.5 * prediction.log_variance).exp() * noise(step)
        yield State(step, x)


@with_facts(trailing_timesteps, eta=0.0)
def euler(
    denoiser: Denoiser, guidance: GuidanceCall, state: State, noise: NoiseSource, eta: float = 0.0
) -> Iterator[State]:
    """Sample by Euler's steps of a flow, z <- z + (sigma' - sigma) v, guided: v <- v - sigma / (1 - sigma) g.

    Since v = eps - x_0, that is DDIM without noise, of any diffusion model.
    """
    yield from ddim(denoiser, guidance, state, noise)


@with_facts(trailing_timesteps, eta=0.0)
def heun(
    denoiser: Denoiser, guidance: GuidanceCall, state: State, noise: NoiseSource, eta: float = 0.0
) -> Iterator[State]:
    """Sample by Heun's steps of a flow: Euler's, taken again with the mean of v at its start and at its end.

    The last step, to the clean image, is Euler's. A step asks the network, and the guide, twice.
    """
    schedule = denoiser.schedule
    sigmas, scales = _of_flow(schedule.alphas_cumprod)
    reached, to = _of_flow(schedule.alphas_cumprod_prev)
    x = state.x
    for step in reversed(range(state.steps_left)):
        z, distance = x / scales[step], float(reached[step] - sigmas[step])
        first = _velocity(denoiser, guidance, x, step)
        x = to[step] * (z + distance * first)
        if step > 0:
            second = _velocity(denoiser, guidance, x, step - 1)
            x = to[step] * (z + distance * (first + second) / 2)
        yield State(step, x)


def _velocity(denoiser: Denoiser, guidance: GuidanceCall, x: Tensor, step: int) -> Tensor:
    """Return the guided velocity eps - x_0 at a step."""
    prediction, gradient = guidance(denoiser, x, step)
    abar = float(denoiser.schedule.alphas_cumprod[step])
    if gradient is None or not abar:
        return prediction.eps - prediction.x0
    eps = prediction.eps - (1 - abar) ** 0.5 * gradient
    return eps - denoiser.x0_from_eps(x, eps, step)


def _of_flow(abar: Array) -> tuple[Array, list[float]]:
    """Return the sigma of a flow at these signal powers, and how many times its z is x_t: sqrt(abar) + sqrt(1 - abar)."""
    signal, noise = np.sqrt(abar), np.sqrt(1 - abar)
    return noise / (signal + noise), (signal + noise).tolist()


def respaced(schedule: Schedule, sampler: Sampler, steps: int) -> Schedule:
    """Return the schedule of the timesteps that a sampler takes in so many steps; ConfigError if there is none.

    A model's own spacing comes before that of a sampler here, but not before a user's own.
    """
    total, spacing = schedule.train_timesteps, schedule.spacing
    if sampler.timesteps not in (ddim_timesteps, ddpm_timesteps, trailing_timesteps):  # the user's own
        spacing = None
    if isinstance(spacing, Levels):
        return spacing.kept(schedule, steps)
    kept = [int(t) for t in (spacing or sampler).timesteps(total, steps)]
    if not kept or kept[0] < 0 or kept[-1] >= total or any(b <= a for a, b in pairwise(kept)):
        raise ConfigError(
            f"{spacing or 'the sampler'} keeps {str(kept)[:100]}; increasing timesteps below {total} were expected"
        )
    left = schedule.keeping(kept)
    return replace(left, reached=spacing.reached(schedule, kept)) if spacing else left


def _of_user(name: str, function: Any) -> Sampler:
    """Return a function of the user's own with all facts; ConfigError if its eta is no number from 0 to 1."""
    eta = getattr(function, "eta", None)
    if eta is not None and (not isinstance(eta, int | float) or not 0 <= eta <= 1):
        raise ConfigError(f"sampler '{name}': eta is {eta!r}; a number from 0 to 1 was expected")
    return with_facts(getattr(function, "timesteps", ddpm_timesteps), eta)(function)


SAMPLERS: Registry[Sampler] = Registry(
    "sampler", {"ddim": ddim, "ddpm": ddpm, "euler": euler, "heun": heun}, "function", _of_user
)
