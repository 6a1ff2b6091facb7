"""A diffusion model: its network, and how that was trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.schedules import PredictionName, Schedule, VarianceName


@dataclass(frozen=True)
class DiffusionModel:
    """A pretrained diffusion network, called as network(x_t, t) for x_t (B, C, H, W) and t (B,), timesteps of training.

    `shape` is (C, H, W) of its images, `schedule` the full one of its training. It answers with what it `predicts`:
    eps, the clean image x0, or v (Salimans & Ho 2022, arXiv 2202.00512); with `variance` "learned_range" followed by
    as many channels, which say the variance of the reverse step (Nichol & Dhariwal 2021, equation 15).
    """

    network: nn.Module
    shape: tuple[int, int, int]
    schedule: Schedule
    variance: VarianceName = "fixed_small"
    predicts: PredictionName = "eps"

    def on(self, schedule: Schedule) -> Denoiser:
        """Return the model on a schedule that takes fewer timesteps (`Schedule.keeping`)."""
        return Denoiser(self.network, schedule, self.variance, self.predicts)

    @property
    def device(self) -> torch.device:
        """The device of the network's weights; the CPU if it has none."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))
