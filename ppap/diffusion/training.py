"""The training of a diffusion network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.schedules import Schedule
from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training


def train_diffusion(
    network: nn.Module, images: Tensor, schedule: Schedule, training: Training, run: TrainingRun
) -> dict[str, float]:
    """Train a network, called as network(x_t, t), in place: minimise |eps - eps_theta(x_t, t)|^2.

    That is equation 14 of Ho et al. 2020; `images` are x_0 (N, C, H, W) in [-1, 1]. Training runs on their device, in
    the precision of the autocast around the call. Returns the steps and the mean loss over the last of them.
    """
    device = images.device
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)

    def loss_at(step: int) -> Tensor:
        x0 = images[torch.randint(len(images), (training.batch_size,))]
        t = torch.randint(len(schedule), (len(x0),), device=device)
        eps = torch.randn_like(x0)
        return F.mse_loss(network(add_noise(x0, eps, abar[t]), t).float(), eps)

    return train(network, loss_at, training, run)
