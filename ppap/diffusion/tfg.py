"""Training-free guidance, TFG: an off-the-shelf model's gradient in x_t and at the estimate of x0, with noise on the latter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.guidance import Evaluations, Guidance, GuideAt, derivative, detached, gradient_of
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError
from ppap.utils.settings import Count

NotNegative = Annotated[float, Field(ge=0)]


@dataclass(kw_only=True)
class TFG(Guidance):
    """Training-free guidance (Ye et al. 2024, arXiv 2409.15761, algorithm 1, without recurrence), with
    alpha_t = abar_t / abar', where abar' is that of the step's end, and w = N alpha_t / (the sum of alpha over N steps):

    - l~(x0) = log mean_k p(y | x0 + sigma sqrt(1 - abar) z_k), with `draws` of noise z_k, the same in all of a step
    - D = scale rho w grad_{x_t} l~(x0), through the diffusion network
    - x0' moves from x0 `iterations` times by scale mu w grad l~(x0')
    - x' = S(x_t, x0) + D / sqrt(alpha_t) + sqrt(abar') (x0' - x0), where S is DDIM's step

    The step that is returned is that of an estimate x0 + (x0' - x0) + D / sqrt(alpha_t abar') with the same eps, and no
    gradient: DDIM multiplies the estimate by sqrt(abar'), at any eta, so that its step is x'. At scale 1 the defaults are
    theirs on ImageNet, with 100 steps and eta 1. Without iterations and noise it is the x0-gradient, times a number.
    """

    through_denoiser = True
    stepwise = False

    rho: NotNegative = 2.0
    mu: NotNegative = 0.5
    sigma: NotNegative = 0.1
    iterations: Annotated[int, Field(ge=0, le=1000)] = 4
    draws: Count = 1
    noise: Callable[[int], Tensor] | None = field(default=None, init=False)
    """The random numbers of the samples (B, C, H, W), by a number; sampling gives them."""

    def __post_init__(self) -> None:
        self.rho, self.mu = self.scale * self.rho, self.scale * self.mu
        self.draws = self.draws if self.sigma else 1

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, None]:
        schedule, log_snr = denoiser.schedule, float(denoiser.schedule.log_snr[step])
        reached = schedule.alphas_cumprod_prev if schedule.reached is None else schedule.reached
        alphas = schedule.alphas_cumprod / reached
        smoothed, weight = self._smoothed(schedule, step), float(alphas[step] / alphas.mean())
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            prediction = denoiser(x, step)
            drift = derivative(smoothed(prediction.x0, log_snr), x)
        prediction = detached(prediction)
        x0 = prediction.x0
        for _ in range(self.iterations):
            x0 = x0 + self.mu * weight * gradient_of(smoothed, lambda scores: scores, x0, log_snr)
        per_root = float(alphas[step] ** 0.5 / alphas.mean())  # weight / sqrt(alpha), which pure noise has too
        x0 = x0 + self.rho * per_root / float(reached[step]) ** 0.5 * drift
        return prediction._replace(x0=x0), None

    def evaluations(self, schedule: Schedule) -> Evaluations:
        """Count the evaluations of a sample: each iteration, and each noise, asks the guide."""
        steps = len(schedule)
        return Evaluations(steps, steps, steps * self.draws * (1 + self.iterations))

    def _smoothed(self, schedule: Schedule, step: int) -> GuideAt:
        """Return l~ of this step, (B,), of estimates (B, C, H, W)."""
        strength = self.sigma * float(1 - schedule.alphas_cumprod[step]) ** 0.5
        noises = [strength * self._noise(step * self.draws + draw) for draw in range(self.draws)] if strength else [0.0]

        def smoothed(images: Tensor, log_snr: float) -> Tensor:
            scores = torch.stack([self.objective(self.guide(images + noise, log_snr)) for noise in noises])
            return scores.logsumexp(0) - math.log(len(noises))

        return smoothed

    def _noise(self, number: int) -> Tensor:
        if self.noise is None:
            raise ConfigError("guidance 'tfg': draws noise, which sampling gives it; elsewhere, sigma is 0")
        return self.noise(number)
