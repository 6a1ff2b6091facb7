"""Images as files hold them, uint8 (B, H, W, C), and as networks see them, float (B, C, H, W) in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.utils.arguments import checked


@checked
def to_tensor(images: NDArray[np.uint8] | NDArray[np.floating] | Tensor) -> Tensor:
    """Turn uint8 (B, H, W, C) into float32 (B, C, H, W) in [-1, 1]; latents, float (B, c, h, w), keep their values."""
    tensor = torch.as_tensor(images)
    if tensor.is_floating_point():
        return tensor.float()
    tensor = tensor.permute(0, 3, 1, 2).contiguous()
    return tensor.float() / 127.5 - 1


@checked
def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """Turn float (B, C, H, W) in [-1, 1] into uint8 (B, H, W, C); values beyond are clipped."""
    pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
