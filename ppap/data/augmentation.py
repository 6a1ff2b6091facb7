"""Augmentation of training images: random shifts, mirror images, and crops as ADM makes them."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_MIN_CROP, _MAX_CROP = 0.8, 1.0


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


def random_crop(image: Image.Image, size: int, random: Random) -> NDArray[np.uint8]:
    """Crop a random square of a resized image: uint8 (size, size, 3), as `random_crop_arr` of ADM.

    The shorter side becomes a random length from size to size / 0.8.
    """
    shortest = random.randint(math.ceil(size / _MAX_CROP), math.ceil(size / _MIN_CROP))
    pixels = np.asarray(_resize_shorter_side(image, shortest))
    height, width = pixels.shape[:2]
    top, left = random.randint(0, height - size), random.randint(0, width - size)
    return pixels[top : top + size, left : left + size]


def _resize_shorter_side(image: Image.Image, length: int) -> Image.Image:
    """Halve with a box filter while twice too large, then resize bicubically."""
    while min(image.size) >= 2 * length:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = length / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
