"""A diffusion model: its network, and how that was trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ppap.diffusion.denoiser import CLIPPED, Clip, Denoiser
from ppap.diffusion.networks.diffusers_source import called
from ppap.diffusion.schedules import PredictionName, Schedule, VarianceName
from ppap.utils.arguments import checked


@checked
@dataclass(frozen=True)
class DiffusionModel:
    """A pretrained diffusion network, called as network(x_t, t) for x_t (B, C, H, W) and t (B,), timesteps of training.

    `shape` is (C, H, W) of its images, `schedule` the full one of its training. It answers with what it `predicts`:
    eps, the clean image x0, or v (Salimans & Ho 2022, arXiv 2202.00512); with `variance` "learned_range" followed by
    as many channels, which say the variance of the reverse step (Nichol & Dhariwal 2021, equation 15). Its estimates of
    x0 are kept in range by `clip`. A UNet2DModel of diffusers is a network too:

        ppap.DiffusionModel(unet, (3, 64, 64), ppap.Schedule.create("cosine", 1000), "fixed_small", "v")
    """

    network: nn.Module
    shape: tuple[int, int, int]
    schedule: Schedule
    variance: VarianceName = "fixed_small"
    predicts: PredictionName = "eps"
    clip: Clip = CLIPPED

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", called(self.network))

    def on(self, schedule: Schedule) -> Denoiser:
        """Return the model on a schedule that takes fewer timesteps (`Schedule.keeping`)."""
        return Denoiser(self.network, schedule, self.variance, self.predicts, self.clip)

    @property
    def device(self) -> torch.device:
        """The device of the network's weights; the CPU if it has none."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))
