"""The preprocessing of a guide's images, before its network sees them: the resize, and the normalisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(images: Tensor, size: int) -> Tensor:
    """Resize images (B, C, H, W) to `size` pixels a side: bilinear, antialiased where it shrinks, differentiable."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=images.shape[-1] > size
    )


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise images in [-1, 1]; `mean` and `std` (1, C or 1, 1, 1) are for pixels in [0, 1]."""
    return ((images + 1) / 2 - mean) / std
