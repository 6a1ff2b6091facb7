"""The input of transformers' models, as their image processors state it: a resize to a square, a normalisation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

from ppap.guides.libraries.library import Input, reason
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils.errors import ConfigError, DataError

_WHITE = 255  # of the pixels that processors see
# what a guide does, or what is about other things than its image
_DONE = {
    *("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb", "do_pad"),
    *("do_reduce_labels", "keep_aspect_ratio"),
}
_NOT_DONE = ("rescale_offset", "include_top", "offset")


def input_of_processor(settings: Mapping[str, Any], path: Path) -> Input:
    """The input that a processor with these settings makes of a square image; of any size: 0.

    DataError if these are no settings of a processor; ConfigError if it does more.
    """
    known = _processor(settings, path)
    more = [key for key, value in known.items() if value and key.startswith("do_")]
    more = [key for key in (*more, *_NOT_DONE) if key not in _DONE and known.get(key)]
    if more:
        raise ConfigError(f"{path}: {more[0]}: not done to the images of a guide")
    try:
        return Input(_size(known, path), *_normalisation(known))
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise DataError(f"{path}: no settings of an image processor ({reason(error)})") from error


def input_from(text: str) -> Input:
    """An input as JSON has it."""
    said = json.loads(text)
    return Input(said["size"], tuple(said["mean"]), tuple(said["std"]))


def refuse_other_input(spec: NetworkConfig, found: Input) -> None:
    """ConfigError, naming the first difference, unless what the preset says of the input is what is found."""
    for key, ours, theirs in (
        ("input_size", spec.input_size, found.size),
        ("mean", spec.mean, found.mean),
        ("std", spec.std, found.std),
    ):
        if ours and theirs and not _same(ours, theirs):
            raise ConfigError(f"{key}: {ours}, but {theirs} in the processor of {spec.model}")


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, int):
        return bool(ours == theirs)
    wide = max(len(ours), len(theirs))
    one, other = (values * wide if len(values) == 1 else values for values in (ours, theirs))
    return len(one) == len(other) and all(
        abs(a - b) <= 1e-6 * max(1, abs(b)) for a, b in zip(one, other, strict=True)
    )


def _processor(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """All settings of the processor of transformers that these settings make, defaults included."""
    name = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    name = str(name).replace("FeatureExtractor", "ImageProcessor")
    kind: Any = get_image_processor_class_from_name(name)
    if kind is None or not kind.__module__.startswith("transformers."):
        raise ConfigError(f"{path}: transformers has no image processor '{name}' of its own")
    plain = {k: v for k, v in settings.items() if k != "auto_map" and not k.startswith("_")}
    try:
        return kind(**plain).to_dict()
    except Exception as error:  # whatever a stranger's settings lead to
        raise DataError(f"{path}: its settings make no {name} ({reason(error)})") from error


def _size(known: Mapping[str, Any], path: Path) -> int:
    """Pixels a side of what becomes of a square image."""
    if known.get("do_center_crop") and (crop := known.get("crop_size")):
        size = _side(crop, path)
    elif known.get("do_resize", True):
        size = _side(known.get("size"), path)
    else:
        return 0
    multiple = known.get("ensure_multiple_of") or 1
    size = round(size / multiple) * multiple
    padded = known.get("size_divisor") or known.get("pad_size")
    whole = isinstance(padded, int) and size % padded == 0
    if known.get("do_pad") and not (whole or _square(padded) == size):
        raise ConfigError(f"{path}: do_pad: not done to the images of a guide")
    return size


def _side(size: Any, path: Path) -> int:
    """The side of a square that a processor's `size` says."""
    side = _square(size)
    if not side or side < 1:
        raise ConfigError(f"{path}: size {size}: not a square")
    return side


def _square(size: Any) -> int | None:
    if isinstance(size, int):
        return size
    given = {key: int(value) for key, value in dict(size or {}).items() if value is not None}
    if {"height", "width"} <= given.keys():
        return given["height"] if given["height"] == given["width"] else None
    return min(given.values(), default=None)  # an edge, or largest sides: of a square they are all


def _normalisation(known: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, for pixels in [0, 1], of what a processor does to those in [0, 255]."""
    factor = float(known["rescale_factor"]) if known.get("do_rescale", True) else 1.0
    white = _WHITE * factor
    if abs(white - 1) < 1e-6:
        white = 1.0  # 1/255 has no end
    if not known.get("do_normalize", True):
        return (0.0,), (1 / white,)
    mean, std = (_numbers(known[key]) for key in ("image_mean", "image_std"))
    return tuple(value / white for value in mean), tuple(value / white for value in std)


def _numbers(values: Any) -> tuple[float, ...]:
    return (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
