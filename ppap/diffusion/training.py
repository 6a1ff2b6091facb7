"""The training of a diffusion network, or of a flow's, and of the autoencoder of latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.schedules import Array, Schedule
from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training


def train_diffusion(
    network: nn.Module, images: Tensor, schedule: Schedule, training: Training, run: TrainingRun
) -> dict[str, float]:
    """Train a network, called as network(x_t, t), in place: minimise |eps - eps_theta(x_t, t)|^2.

    That is equation 14 of Ho et al. 2020; `images` are x_0 (N, C, H, W) in [-1, 1], or latents. On the schedule of a flow
    it learns the velocity eps - x_0 of z = (1 - sigma) x_0 + sigma eps, at sigmas whose logit is normal (Esser et al.
    2024, arXiv 2403.03206, equations 13 and 19). Training runs on the images' device, in the precision of the autocast
    around the call. Returns the steps and the mean loss over the last of them.
    """
    device = images.device
    if schedule.flow_times is not None:
        return train(network, _flow_loss(network, images, schedule.flow_times, training), training, run)
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)

    def loss_at(step: int) -> Tensor:
        x0 = images[torch.randint(len(images), (training.batch_size,))]
        t = torch.randint(len(schedule), (len(x0),), device=device)
        eps = torch.randn_like(x0)
        return F.mse_loss(network(add_noise(x0, eps, abar[t]), t).float(), eps)

    return train(network, loss_at, training, run)


def _flow_loss(network: nn.Module, images: Tensor, times: Array, training: Training) -> Callable[[int], Tensor]:
    told = torch.tensor(times, dtype=torch.float32, device=images.device)

    def loss_at(step: int) -> Tensor:
        x0 = images[torch.randint(len(images), (training.batch_size,))]
        place = torch.randn(len(x0), device=images.device).sigmoid()
        t = (place * len(told)).long().clamp(max=len(told) - 1)
        sigma = (told[t] / len(told))[:, None, None, None]
        eps = torch.randn_like(x0)
        return F.mse_loss(network((1 - sigma) * x0 + sigma * eps, told[t]).float(), eps - x0)

    return loss_at


def train_autoencoder(
    network: nn.Module, pictures: Tensor, kl_weight: float, training: Training, run: TrainingRun
) -> dict[str, float]:
    """Train an AutoencoderKL of diffusers in place on pictures (N, C, H, W) in [-1, 1].

    It minimises the mean absolute error of what it decodes from a drawn latent, and `kl_weight` times the mean of the
    latents' KL divergence from a standard normal distribution (Rombach et al. 2022, section 3.1, without their
    discriminator). Returns the steps and the mean loss over the last of them.
    """
    autoencoder: Any = network

    def loss_at(step: int) -> Tensor:
        x = pictures[torch.randint(len(pictures), (training.batch_size,))]
        latents = autoencoder.encode(x).latent_dist
        decoded = autoencoder.decode(latents.sample()).sample
        divergence = latents.kl().mean() / latents.mean[0].numel()
        return F.l1_loss(decoded.float(), x) + kl_weight * divergence

    return train(network, loss_at, training, run)


def scale_and_shift(network: nn.Module, pictures: Tensor) -> tuple[float, float]:
    """Return the numbers that give the latents of these pictures mean 0 and variance 1, all channels alike."""
    latents = Autoencoder(network).encoded(pictures)
    return 1 / float(latents.std()), float(latents.mean())
