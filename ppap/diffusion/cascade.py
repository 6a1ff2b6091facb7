"""Cascades (Ho et al. 2021, arXiv 2106.15282): images drawn small, and drawn anew, larger, by a second diffusion model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Network
from ppap.diffusion.schedules import Schedule, VarianceName

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class SecondStage:
    """The diffusion model of large images, which `ppap.diffusion.sampling.upsample` draws by; only the first is guided.

    `upsampling` is its network(x_t, t) for small images (B, C, h, w) in [-1, 1], `shape` (C, H, W) of the large ones,
    `schedule` the full one of its training; `temperature` is a factor of x_T.
    """

    upsampling: Callable[[Tensor], Network]
    shape: tuple[int, int, int]
    schedule: Schedule
    variance: VarianceName = "fixed_small"
    temperature: float = 1.0
    device: torch.device = _CPU

    def on(self, schedule: Schedule, low_res: Tensor) -> Denoiser:
        """Return the model for these small images, on a schedule that takes fewer timesteps."""
        return Denoiser(self.upsampling(low_res), schedule, self.variance)
