"""Depth and label maps: how they are read from files, and brought to the resolution of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ppap.data.image_folder import decoding
from ppap.utils import files
from ppap.utils.errors import DataError

_ONE_CHANNEL = ("1", "L", "I", "I;16", "I;16B", "F")
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif")
_PALETTES = ("inferno", "magma", "plasma", "viridis", "turbo", "jet", "Spectral")
"""Colour maps that depth is painted with; reversed ones have the same colours."""
_FEW, _LEVELS = 8, 256


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


def read_map(path: Path, labels: int = 0) -> Tensor | None:
    """Read the middle square of the map in a file, as float64 (1, H, W): .npy, .npz of one array, or an image.

    Maps in images are grey, in one channel or in equal ones; of so many `labels`, the numbers of a palette's colours
    too. None if the file is a picture: in colour, or with losses, as maps are not kept. DataError if it is neither, a
    number is not finite, or it is painted: it has no more colours than labels, or only those of a usual map of colours.
    """
    suffix = path.suffix.lower()
    if suffix in _LOSSY:
        return None
    if suffix == ".npz":
        arrays = files.read_arrays(path)
        if len(arrays) != 1:
            raise DataError(f"{path}: holds {len(arrays)} arrays ({', '.join(arrays)}); one map was expected")
        values: NDArray[Any] | None = next(iter(arrays.values()))
    else:
        values = np.array(files.map_array(path)) if suffix == ".npy" else _of_image(path, labels)
    if values is None:
        return None
    shape = values.shape
    if values.ndim > 2:
        values = values.squeeze()  # (1, H, W) and the like
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {values.dtype} {shape}; a map of numbers (height, width) was expected")
    side = min(values.shape)
    top, left = ((n - side) // 2 for n in values.shape)
    middle = torch.from_numpy(values[top : top + side, left : left + side].astype(np.float64))
    if not middle.isfinite().all():
        raise DataError(f"{path}: has numbers that are not finite")
    return middle[None]


def _of_image(path: Path, labels: int) -> NDArray[Any] | None:
    """Read the numbers of an image that is grey, or of labels in a palette's colours; None if it is a picture."""
    with decoding(path), Image.open(path) as image:
        if image.mode in _ONE_CHANNEL or (labels and image.mode == "P"):
            return np.array(image)
        pixels = np.array(image.convert("RGB"))
    if (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    if painted := _painted(pixels, labels):
        raise DataError(f"{path}: shows a map in {painted}; write its numbers")
    return None


def _painted(pixels: NDArray[np.uint8], labels: int) -> str | None:
    """Say what colours pixels (H, W, 3) have if these are a map's: of few labels, or one that numbers are painted in."""
    from matplotlib import colormaps

    colours = np.unique(pixels.reshape(-1, 3), axis=0).astype(int)
    if 1 < len(colours) <= labels + 1:
        return f"{len(colours)} colours"
    if labels or not _FEW < len(colours) <= _LEVELS:
        return None
    for name in _PALETTES:
        palette = colormaps[name](range(_LEVELS))[:, :3] * (_LEVELS - 1)
        if (abs(colours[:, None] - palette).max(-1).min(1) <= 1).all():  # a tool's rounding, or another's
            return f"the colours of {name}"
    return None
