"""Depth and label maps: how they are read from files, and brought to the resolution of images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ppap.utils import files
from ppap.utils.errors import DataError

_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "F")
_LOSSY = (".jpg", ".jpeg", ".webp")


def resized(maps: Tensor, size: int) -> Tensor:
    """Resize maps (B, H, W) or (B, K, H, W) bilinearly, antialiased where they shrink."""
    if maps.shape[-2:] == (size, size):
        return maps
    maps = maps.float()  # to resize in bfloat16, with antialiasing, is not implemented on CPUs
    channels = maps if maps.ndim == 4 else maps[:, None]
    antialias = maps.shape[-1] > size
    values = F.interpolate(channels, (size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return values if maps.ndim == 4 else values[:, 0]


def resized_labels(labels: Tensor, size: int) -> Tensor:
    """Resize label maps (B, H, W): each pixel takes the label of the nearest one."""
    return F.interpolate(labels[:, None].double(), (size, size), mode="nearest-exact")[:, 0].long()


def read_map(path: Path) -> Tensor | None:
    """Read the middle square of the map in an .npy file or a grey or indexed .png, as float64 (1, H, W).

    None if the file is a picture: in colour, or with losses, as maps are not kept. DataError if it is neither, or
    a number is not finite.
    """
    if path.suffix.lower() in _LOSSY:
        return None
    values = np.array(files.map_array(path)) if path.suffix.lower() == ".npy" else _grey(path)
    if values is None:
        return None
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {values.dtype} {values.shape}; a map of numbers (height, width) was expected")
    side = min(values.shape)
    top, left = ((n - side) // 2 for n in values.shape)
    middle = torch.from_numpy(values[top : top + side, left : left + side].astype(np.float64))
    if not middle.isfinite().all():
        raise DataError(f"{path}: has numbers that are not finite")
    return middle[None]


def _grey(path: Path) -> NDArray[Any] | None:
    """Read the numbers of an image with one channel, grey or indexed; None if it has more."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            return np.array(image) if image.mode in _ONE_CHANNEL else None
    except Exception as error:  # whatever a decoder stumbles over
        said = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as an image ({said})") from None
