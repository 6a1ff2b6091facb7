"""The training of an autoencoder on pictures, and the scale and shift of its latents."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.autoencoder import Autoencoder
from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training


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
        loss: Tensor = F.l1_loss(decoded.float(), x) + kl_weight * divergence
        return loss

    return train(network, loss_at, training, run)


def scale_and_shift(network: nn.Module, pictures: Tensor) -> tuple[float, float]:
    """Return the numbers that give the latents of these pictures mean 0 and variance 1, all channels alike."""
    latents = Autoencoder(network).encoded(pictures)
    return 1 / float(latents.std()), float(latents.mean())
