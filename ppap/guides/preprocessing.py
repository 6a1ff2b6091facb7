"""The preprocessing of a guide's images, before its network sees them: the resize, and the normalisation."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]


def resized(images: Tensor, size: int, interpolation: Interpolation = "bilinear", antialias: bool = True) -> Tensor:
    """Resize images (B, C, H, W) to `size` pixels a side, differentiably, as torchvision does; `antialias` as there."""
    if images.shape[-1] == size:
        return images
    # where it enlarges, torch has two kinds of bicubic, and two ways to the same bilinear
    smooth = antialias and (images.shape[-1] > size or interpolation == "bicubic")
    return F.interpolate(images, size=(size, size), mode=interpolation, align_corners=False, antialias=smooth)


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise images in [-1, 1]; `mean` and `std` (1, C or 1, 1, 1) are for pixels in [0, 1]."""
    return ((images + 1) / 2 - mean) / std
