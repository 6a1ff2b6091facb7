"""Augmentation of training images: random shifts, and mirror images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted(images: Tensor, largest: int) -> Tensor:
    """Move each of the images (B, C, H, W) by up to `largest` pixels both ways, its edge repeated."""
    if not largest:
        return images
    b, _, h, w = images.shape
    padded = F.pad(images, [largest] * 4, mode="replicate")
    rows = torch.randint(2 * largest + 1, (b, 1)) + torch.arange(h)  # (B, H)
    columns = torch.randint(2 * largest + 1, (b, 1)) + torch.arange(w)  # (B, W)
    batch = torch.arange(b)[:, None, None]
    picked = padded.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]]
    return picked.movedim(-1, 1).contiguous()


def mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror those of the images (B, C, H, W) that are chosen: (B,) of booleans."""
    return where(chosen, images.flip(-1), images)


def where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Take each entry (B, ...) from `one` where `chosen` (B,) says so, else from the other."""
    return torch.where(chosen.to(other.device).view(-1, *[1] * (other.ndim - 1)), one, other)
