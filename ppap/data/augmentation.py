"""Crops of training images, as ADM makes them (Dhariwal & Nichol 2021, `image_datasets.py`)."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MIN_CROP, _MAX_CROP = 0.8, 1.0


def random_crop(image: Image.Image, size: int, random: Random) -> NDArray[np.uint8]:
    """Crop a random square of a resized image: uint8 (size, size, 3), as `random_crop_arr` of ADM.

    The shorter side becomes a random length from size to size / 0.8.
    """
    shortest = random.randint(math.ceil(size / _MAX_CROP), math.ceil(size / _MIN_CROP))
    pixels = np.asarray(_resize_shorter_side(image, shortest))
    height, width = pixels.shape[:2]
    top, left = random.randint(0, height - size), random.randint(0, width - size)
    return pixels[top : top + size, left : left + size]


def randomly_mirrored(crop: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    """Mirror an image (H, W, C) half of the time."""
    return crop[:, ::-1] if random.random() < 0.5 else crop


def _resize_shorter_side(image: Image.Image, length: int) -> Image.Image:
    """Halve with a box filter while twice too large, then resize bicubically."""
    while min(image.size) >= 2 * length:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = length / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
