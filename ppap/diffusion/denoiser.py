"""The denoiser: noise added to a clean image, and the clean image that a diffusion network sees in x_t."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from ppap.diffusion.schedules import PredictionName, Schedule, VarianceName
from ppap.utils.arguments import has_shape
from ppap.utils.errors import ConfigError

Network = Callable[[Tensor, Tensor], Tensor]

_NO_GRADIENT = (
    "guidance: the diffusion network gives no gradient for x_t (exported, quantised, under no_grad()?); experts and "
    "'x0_estimate' need none"
)
_NO_AUTOGRAD = re.compile("requires grad|Inference tensors")
"""Torch's errors where numpy breaks the graph, and where weights were made in inference mode."""


class Clip(NamedTuple):
    """The range that estimates of x0 are kept in: clipped to [-limit, limit], or left alone without a limit.

    With a `quantile`, thresholding is dynamic (Saharia et al. 2022, arXiv 2205.11487, section 2.3): each image is
    clipped to that quantile of its absolute values, between 1 and the limit, and divided by it.
    """

    limit: float | None = 1.0
    quantile: float | None = None

    def __call__(self, x0: Tensor) -> Tensor:
        if self.quantile is not None:
            bound = x0.flatten(1).abs().quantile(self.quantile, 1).clamp(1, self.limit)[:, None, None, None]
            return x0.clamp(-bound, bound) / bound
        return x0 if self.limit is None else x0.clamp(-self.limit, self.limit)


CLIPPED = Clip()


class Prediction(NamedTuple):
    """One step's prediction, each (B, C, H, W); `x0` is clipped and `eps` agrees with it."""

    eps: Tensor
    x0: Tensor
    log_variance: Tensor


def add_noise(x0: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
    """Return x_t = sqrt(abar) x0 + sqrt(1 - abar) eps, for abar (B,) (Ho et al. 2020, equation 4)."""
    abar = abar[:, None, None, None]
    return abar.sqrt() * x0 + (1 - abar).sqrt() * eps


class Process(NamedTuple):
    """The fields of `DiffusionModel` that say how a network was trained and is drawn from."""

    schedule: Schedule
    variance: VarianceName = "fixed_small"
    predicts: PredictionName = "eps"
    clip: Clip = CLIPPED


class Denoiser:
    """A diffusion network on a (respaced) schedule: `denoiser(x_t, step)` for x_t (B, C, H, W).

    A flow's network is asked in its own frame: of z = (1 - sigma) x_0 + sigma eps, with sigma / (1 - sigma) =
    sqrt(1 - abar) / sqrt(abar), it predicts the velocity eps - x_0. ConfigError if the network predicts eps, of which a
    step of pure noise tells no clean image; when called, if the answer is of another shape, or has no gradient for an
    x_t that asks for one.
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        variance: VarianceName,
        predicts: PredictionName = "eps",
        clip: Clip = CLIPPED,
    ) -> None:
        self.network, self.schedule = network, schedule
        self.variance, self.predicts, self.clip = variance, predicts, clip
        if predicts == "eps" and not schedule.alphas_cumprod[-1]:
            raise ConfigError(
                f"predicts: eps, but x_t is pure noise at timestep {schedule.timesteps[-1]} (zero terminal SNR): eps "
                "tells no clean image there, v and x0 do"
            )

    def told(self, labels: Tensor | None) -> Denoiser:
        """Return the denoiser of images with these labels (B,), of which its network is told; None: of none."""
        if labels is None:
            return self
        network: Any = self.network
        network = functools.partial(network, numbers=labels)
        return Denoiser(network, self.schedule, self.variance, self.predicts, self.clip)

    def __call__(self, x: Tensor, step: int) -> Prediction:
        t = torch.full((len(x),), self.schedule.times[step], device=x.device)
        signal, noise = self._signal_and_noise(step)
        predicted, log_variance = self._split(self._asked(x, t, signal, noise), x, step)
        x0 = self.clip(self._x0(x, predicted, signal, noise))
        return Prediction(self.eps_from_x0(x, x0, step), x0, log_variance)

    @torch.no_grad()
    def x0_hat(self, x: Tensor, steps: Tensor) -> Tensor:
        """Return the estimates of x_0 in x_t (B, C, H, W) at a step of its own each, (B,)."""
        abar = torch.tensor(self.schedule.alphas_cumprod, dtype=torch.float32)[steps.cpu(), None, None, None].to(x)
        t = torch.tensor(self.schedule.times)[steps.cpu()].to(x.device)
        predicted = self._asked(x, t, abar.sqrt(), (1 - abar).sqrt())[:, : x.shape[1]]
        return self.clip(self._x0(x, predicted, abar.sqrt(), (1 - abar).sqrt()))

    def _asked(self, x: Tensor, t: Tensor, signal: float | Tensor, noise: float | Tensor) -> Tensor:
        """Ask the network, in its frame, where x_t = signal x_0 + noise eps."""
        differentiated = x.requires_grad and torch.is_grad_enabled()
        try:
            output = self.network(x / (signal + noise) if self.predicts == "flow" else x, t)
        except RuntimeError as error:
            if differentiated and _NO_AUTOGRAD.search(str(error)):
                raise ConfigError(_NO_GRADIENT) from error
            raise
        channels = x.shape[1] * (2 if self.variance == "learned_range" else 1)
        has_shape("the diffusion network", output, (len(x), channels, *x.shape[2:]))
        if differentiated and not _differentiable(output, x):
            raise ConfigError(_NO_GRADIENT)
        output = output.float()
        return output.clone() if output.is_inference() else output  # guides are to take gradients at what comes of it

    def _x0(self, x: Tensor, predicted: Tensor, signal: float | Tensor, noise: float | Tensor) -> Tensor:
        if self.predicts == "x0":
            return predicted
        if self.predicts == "v":  # Salimans & Ho 2022, arXiv 2202.00512, appendix D
            return signal * x - noise * predicted
        if self.predicts == "flow":  # z - sigma v
            return (x - noise * predicted) / (signal + noise)
        return (x - noise * predicted) / signal  # Ho et al. 2020, equation 15

    def _signal_and_noise(self, step: int) -> tuple[float, float]:
        """Return sqrt(abar) and sqrt(1 - abar)."""
        abar = float(self.schedule.alphas_cumprod[step])
        return abar**0.5, (1 - abar) ** 0.5

    def x0_from_eps(self, x: Tensor, eps: Tensor, step: int) -> Tensor:
        """Return x0_hat = (x_t - sqrt(1 - abar) eps) / sqrt(abar), Ho et al. 2020, equation 15."""
        signal, noise = self._signal_and_noise(step)
        return (x - noise * eps) / signal

    def eps_from_x0(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        signal, noise = self._signal_and_noise(step)
        return (x - signal * x0) / noise

    def posterior_mean(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        """Return the mean of q(x_{t-1} | x_t, x0), Ho et al. 2020, equation 7."""
        s = self.schedule
        return float(s.posterior_mean_coef1[step]) * x0 + float(s.posterior_mean_coef2[step]) * x

    def _split(self, output: Tensor, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the network's eps and the log-variance of the reverse step, both like x."""
        smallest = float(self.schedule.posterior_log_variance_clipped[step])
        beta = math.log(float(self.schedule.betas[step]))
        if self.variance == "learned_range":  # Nichol & Dhariwal 2021, equation 15
            predicted, share = output.chunk(2, dim=1)
            share = (share + 1) / 2
            return predicted, share * beta + (1 - share) * smallest
        large = self.variance == "fixed_large" and step > 0
        return output, torch.full_like(x, beta if large else smallest)


def _differentiable(output: Tensor, x: Tensor) -> bool:
    """Tell whether autograd gets from what a network made of x back to x, by operations that it all knows."""
    seen: set[object] = set()
    left = [output.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if "NotImplemented" in node.name():  # of a quantised layer, whose gradient would be taken for 0
            return False
        seen.add(node)
        left.extend(before for before, _ in node.next_functions)
    return get_gradient_edge(x).node in seen
