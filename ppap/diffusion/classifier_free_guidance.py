"""Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) towards a prompt, as GLIDE has it (section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def classifier_free(prompt: Tensor, empty: Tensor, channels: int, scale: float) -> Tensor:
    """Combine what a network predicts with a prompt and with the empty one, eps and variance (B, 2 * channels, H, W).

    eps = eps_empty + scale (eps_prompt - eps_empty); the variance is the prompt's.
    """
    difference = prompt[:, :channels] - empty[:, :channels]
    eps = empty[:, :channels] + scale * difference
    return torch.cat([eps, prompt[:, channels:]], dim=1)
