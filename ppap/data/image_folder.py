"""Labelled images in a folder of torchvision's layout (FOLDER/CLASS/IMAGE), in random batches for training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ppap.data.augmentation import random_crop, randomly_mirrored
from ppap.data.images import to_tensor
from ppap.data.loading import load
from ppap.utils.errors import DataError
from ppap.utils.seeds import Stream, mix

_CPU = torch.device("cpu")


class LabelledFiles(NamedTuple):
    """Image files and their classes: a class's index is its place among the sorted folder names."""

    paths: list[str]
    labels: list[int]


class LabelledBatch(NamedTuple):
    """images: float32 (B, 3, S, S) in [-1, 1]; labels: int64 (B,)."""

    images: Tensor
    labels: Tensor


class _Draw(NamedTuple):
    """One image of a training run: its place among all that are drawn decides its crop."""

    path: str
    label: int
    place: int


def list_files(folder: Path, classes: int) -> LabelledFiles:
    """List the images of a folder; DataError if it is missing, or has not `classes` folders with images."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images (one folder a class)")
    names = sorted(each.name for each in folder.glob("[!.]*") if each.is_dir())
    if len(names) != classes:
        raise DataError(f"{folder}: holds {len(names)} classes, the preset has {classes}")
    listed = LabelledFiles([], [])
    for label, name in enumerate(names):
        pictures = sorted(_pictures(folder / name), key=lambda path: (str(path.parent), path.name))
        if not pictures:
            raise DataError(f"{folder / name}: no images in this class's folder")
        listed.paths.extend(map(str, pictures))
        listed.labels.extend([label] * len(pictures))
    return listed


def pictures_under(folder: Path, others: Sequence[str] = ()) -> list[Path]:
    """List the images anywhere under a folder, and files with these other suffixes, by name."""
    return sorted(_pictures(folder, others))


def _pictures(folder: Path, others: Sequence[str] = (), above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Walk a folder and linked ones in it, but for links back `above`, hidden folders, and files such as `._a.png`."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    here = folder.resolve()
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                yield from _pictures(path, others, above | {here})
            elif path.suffix.lower() in (*IMG_EXTENSIONS, *others):
                yield path


class TrainingBatches:
    """Random batches by step: `batches(step)` depends on the seed and the step, not on workers or restarts.

    Every image is seen once an epoch, in an order of its own, cropped at random and, if `mirror`, mirrored
    half of the time. Worker processes (by default one for each core) prepare the steps to come; asking for
    a step out of order starts them anew. DataError if a file cannot be decoded.
    """

    def __init__(
        self,
        files: LabelledFiles,
        image_size: int,
        batch_size: int,
        seed: int,
        mirror: bool = True,
        workers: int | None = None,
        device: torch.device = _CPU,
    ) -> None:
        self.files, self.image_size, self.batch_size = files, image_size, batch_size
        self.seed, self.mirror, self.device = seed, mirror, device
        self.workers = _cores() if workers is None else workers
        self._next = -1
        self._loaded: Iterator[LabelledBatch] = iter(())

    def __call__(self, step: int) -> LabelledBatch:
        if step != self._next:
            self._loaded = load(self._cropped, self._draws(step), self.device, self.workers)
        pixels, labels = (part.to(self.device, non_blocking=True) for part in next(self._loaded))
        self._next = step + 1
        return LabelledBatch(to_tensor(pixels), labels)

    def _draws(self, step: int) -> Iterator[list[_Draw]]:
        """Yield what is drawn in each step, from this one on, without end."""
        count, epoch = len(self.files.paths), -1
        while True:
            batch = []
            for place in range(step * self.batch_size, (step + 1) * self.batch_size):
                if place // count != epoch:
                    epoch = place // count
                    order = np.random.default_rng(mix(Stream.EPOCH, self.seed, epoch)).permutation(count)
                file = order[place % count]
                batch.append(_Draw(self.files.paths[file], self.files.labels[file], place))
            yield batch
            step += 1

    def _cropped(self, draws: list[_Draw]) -> LabelledBatch:
        """Make the uint8 crops (B, S, S, 3) of a batch."""
        crops = np.stack([self._crop(draw) for draw in draws])
        return LabelledBatch(torch.from_numpy(crops), torch.tensor([draw.label for draw in draws]))

    def _crop(self, draw: _Draw) -> NDArray[np.uint8]:
        random = Random(mix(Stream.CROP, self.seed, draw.place))
        crop = random_crop(read_image(draw.path), self.image_size, random)
        return randomly_mirrored(crop, random) if self.mirror else crop


def read_image(path: str | Path) -> Image.Image:
    """Read an image as RGB; DataError, naming the file, if it cannot be decoded.

    As ADM's and torchvision's loaders: transparency is dropped, and EXIF's orientation is not applied, since
    published reference statistics come from images read so. Of 16 bits the upper 8 are kept.
    """
    try:
        # what is warned of is read; a picture of twice that size is an error
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            return _rgb(image)
    except Exception as error:  # whatever a decoder stumbles over: the file is no picture
        raise DataError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None


def centred(image: Image.Image, size: int) -> Tensor:
    """Resize an image of any size by its shorter side, and crop it to the centre: uint8 (size, size, C)."""
    from torchvision.transforms import v2

    fit = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    return fit(image).permute(1, 2, 0)


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to eight bits a channel. Pillow halves 16-bit colours by itself, but makes 16-bit greys white."""
    deep = image.mode == "I" and image.format in ("PNG", "PPM")
    if deep or image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32 bits a pixel, mode {image.mode}: which value is white is not known")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _cores() -> int:
    """Count the cores that this job may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
