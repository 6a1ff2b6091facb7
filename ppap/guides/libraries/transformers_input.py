"""The input of models of transformers, as the image processor in a publisher's folder makes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.guides.preprocessing import Interpolation, normalised
from ppap.utils.errors import ConfigError, DataError, reason

PROCESSOR = "preprocessor_config.json"
# what a guide does as processors do it, or what is about other things than its image
_DONE = {"do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb", "do_reduce_labels"}
_CLOSE = 1e-3  # of the largest value that a processor makes


def quiet_transformers() -> Any:
    """Import transformers, and have it say nothing but errors."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def input_of(folder: Path) -> dict[str, Any]:
    """Find out the `Input` that a folder's image processor makes of a square image, as far as it has one.

    ConfigError if it does what a guide does not; DataError if its settings make none.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        return {}
    try:
        load = partial(quiet_transformers().AutoImageProcessor.from_pretrained, folder, trust_remote_code=False)
        known = load().to_dict()
        processor = load(**_uncropped(known))
        with torch.device("cpu"), torch.no_grad():  # wherever the network is to be
            seen = _measured(lambda image: processor(image, return_tensors="pt").pixel_values[0])
    except Exception as error:  # whatever a stranger's settings lead to
        raise DataError(f"{path}: makes no image processor ({reason(error)})") from error
    if seen is None:
        odd = [key for key, value in sorted(known.items()) if value and key.startswith("do_") and key not in _DONE]
        raise ConfigError(f"{path}: {', '.join(odd) or 'resample'}: not done to the images of a guide")
    return seen


def _uncropped(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes by which a processor shows the whole image, at the size of what it would crop."""
    changes: dict[str, Any] = {"crop_pct": 1.0} if known.get("crop_pct") else {}
    if known.get("do_center_crop"):
        changes |= {"do_center_crop": False, "size": known["crop_size"]}
    return changes


def _measured(process: Callable[[Tensor], Tensor]) -> dict[str, Any] | None:
    """Find out the input that a processor of images (3, H, W) in [0, 255] makes, by what it makes of three.

    Without a size if that is no square, or varies with the image's; None if no resize and normalisation does the same.
    """
    black, white = process(torch.zeros(3, 64, 64)), process(torch.full((3, 96, 96), 255.0))
    fixed, square = black.shape == white.shape, black.shape[1] == black.shape[2]
    low, high = black.mean((1, 2)), white.mean((1, 2))
    mean, std = _numbers(low / (low - high) + 0.0), _numbers(1 / (high - low))
    sides = [side * 5 // 4 for side in black.shape[1:]]  # smaller ones show how it resizes
    picture = torch.rand(3, *sides, generator=torch.Generator().manual_seed(0))
    seen = process(255 * picture)
    for interpolation, antialias in itertools.product(get_args(Interpolation), (True, False)):
        ours = F.interpolate(picture[None], seen.shape[1:], mode=interpolation, antialias=antialias)[0]
        ours = normalised(2 * ours - 1, *(torch.tensor(numbers).view(-1, 1, 1) for numbers in (mean, std)))
        if (ours - seen).abs().max() < _CLOSE * seen.abs().max():
            size = {"input_size": black.shape[1]} if fixed and square else {}
            return {**size, "mean": mean, "std": std, "interpolation": interpolation, "antialias": antialias}
    return None


def _numbers(channels: Tensor) -> tuple[float, ...]:
    """Return a number for each channel, or one for all; 1/255 has no end, so that the last digits are not meant."""
    numbers = tuple(float(f"{number:.6g}") for number in channels)
    return numbers if len(set(numbers)) > 1 else numbers[:1]
