"""Labelled images in a folder of torchvision's layout (FOLDER/CLASS/IMAGE), cropped as ADM crops them.

torchvision takes as long to import as torch, and few jobs read a folder: so it is imported where one is read.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ppap.data.datasets import to_tensor
from ppap.utils.errors import DataError
from ppap.utils.seeds import Stream, mix

_MIN_CROP, _MAX_CROP = 0.8, 1.0
_LONGEST = (
    200  # sides: an image that is longer would take gigabytes when its shorter side is enlarged
)
_CPU = torch.device("cpu")


class LabelledFiles(NamedTuple):
    """Image files and their classes: a class's index is its place among the sorted folder names."""

    paths: list[str]
    labels: list[int]


class LabelledBatch(NamedTuple):
    """images: float32 (B, 3, S, S) in [-1, 1]; labels: int64 (B,)."""

    images: Tensor
    labels: Tensor


class Draw(NamedTuple):
    """One image of a training run: its place among all that are drawn decides its crop."""

    path: str
    label: int
    place: int


def list_files(folder: Path, classes: int) -> LabelledFiles:
    """The images of a folder; DataError if it is missing, or has not `classes` folders with images."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images (one folder a class)")
    try:
        names, index = find_classes(folder)
        if len(names) != classes:
            raise DataError(f"{folder}: holds {len(names)} classes, the preset has {classes}")
        found = make_dataset(folder, index, IMG_EXTENSIONS)
    except OSError as error:
        raise DataError(f"{folder}: {' '.join(str(error).split())}") from None
    return LabelledFiles([path for path, _ in found], [label for _, label in found])


def pictures_under(folder: Path, others: Sequence[str] = ()) -> list[Path]:
    """The images anywhere under a folder, and files with these other suffixes, by name."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    suffixes = (*IMG_EXTENSIONS, *others)
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


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
        self._crops = _RandomCrops(image_size, seed, mirror)
        self.files, self.batch_size, self.seed = files, batch_size, seed
        self.workers = available_cores() if workers is None else workers
        self.device = device
        self._next = -1
        self._loaded: Iterator[LabelledBatch | DataError] = iter(())

    def __call__(self, step: int) -> LabelledBatch:
        if step != self._next:
            self._loaded = self._load(step)
        batch = next(self._loaded)
        self._next = step + 1
        if isinstance(batch, DataError):
            raise batch
        pixels, labels = (part.to(self.device, non_blocking=True) for part in batch)
        return LabelledBatch(to_tensor(pixels), labels)

    def _load(self, first: int) -> Iterator[LabelledBatch | DataError]:
        loader = DataLoader(
            self._crops,
            batch_size=None,  # the sampler gives whole batches
            sampler=_Steps(self.files, self.batch_size, self.seed, first),
            num_workers=self.workers,
            generator=torch.Generator(),  # or the global one would be drawn from at every restart
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)


class _Steps(Sampler[list[Draw]]):
    """The batches from step `first` on, without end."""

    def __init__(self, files: LabelledFiles, batch_size: int, seed: int, first: int) -> None:
        self.files, self.batch_size, self.seed, self.first = files, batch_size, seed, first

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = self._draws(self.first * self.batch_size)
        while True:
            yield [next(draws) for _ in range(self.batch_size)]

    def _draws(self, first: int) -> Iterator[Draw]:
        count = len(self.files.paths)
        epoch, start = divmod(first, count)
        while True:
            order = np.random.default_rng(mix(Stream.EPOCH, self.seed, epoch)).permutation(count)
            for i in range(start, count):
                file = order[i]
                yield Draw(self.files.paths[file], self.files.labels[file], epoch * count + i)
            epoch, start = epoch + 1, 0


class _RandomCrops(Dataset[LabelledBatch | DataError]):
    """Batches of uint8 crops (B, S, S, 3), made in a worker.

    An error is returned, not raised: DataLoader would bury its one line in the worker's traceback.
    """

    def __init__(self, image_size: int, seed: int, mirror: bool) -> None:
        self.image_size, self.seed, self.mirror = image_size, seed, mirror

    def __getitem__(self, draws: list[Draw]) -> LabelledBatch | DataError:
        try:
            crops = np.stack([self._crop(draw) for draw in draws])
        except DataError as error:
            return error
        return LabelledBatch(torch.from_numpy(crops), torch.tensor([draw.label for draw in draws]))

    def _crop(self, draw: Draw) -> NDArray[np.uint8]:
        random = Random(mix(Stream.CROP, self.seed, draw.place))
        crop = random_crop(read_image(draw.path), self.image_size, random)
        return crop[:, ::-1] if self.mirror and random.random() < 0.5 else crop


def read_image(path: str | Path) -> Image.Image:
    """An image as RGB; DataError, naming the file, if it cannot be decoded.

    As ADM's and torchvision's loaders: transparency is dropped, and EXIF's orientation is not applied, since
    published reference statistics come from images read so. Of 16 bits the upper 8 are kept.
    """
    try:
        with warnings.catch_warnings():
            # a picture of twice the size that is warned of is an error
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                rgb = _rgb(image)
    except (
        Exception
    ) as error:  # whatever a decoder stumbles over, the file is not what it should be
        raise DataError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None
    if max(rgb.size) > _LONGEST * min(rgb.size):
        raise DataError(f"{path}: has {rgb.width} x {rgb.height} pixels, which is a line")
    return rgb


def centred(image: Image.Image, size: int) -> Tensor:
    """An image of any size, resized by its shorter side and cropped to the centre: uint8 (size, size, C)."""
    from torchvision.transforms import v2

    fit = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    return fit(image).permute(1, 2, 0)


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits a channel. Pillow halves 16-bit colours by itself, but makes 16-bit greys white."""
    deep = image.mode == "I" and image.format in ("PNG", "PPM")
    if deep or image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32 bits a pixel, mode {image.mode}: which value is white is not known")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def random_crop(image: Image.Image, size: int, random: Random) -> NDArray[np.uint8]:
    """A random square of a resized image: uint8 (size, size, 3), as `random_crop_arr` of ADM.

    The shorter side becomes a random length from size to size / 0.8.
    """
    shortest = random.randint(math.ceil(size / _MAX_CROP), math.ceil(size / _MIN_CROP))
    pixels = np.asarray(_resize_shorter_side(image, shortest))
    height, width = pixels.shape[:2]
    top, left = random.randint(0, height - size), random.randint(0, width - size)
    return pixels[top : top + size, left : left + size]


def center_crop(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle of an image whose shorter side becomes `size`: uint8 (size, size, 3), as `center_crop_arr` of ADM."""
    pixels = np.asarray(_resize_shorter_side(image, size))
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


def available_cores() -> int:
    """The cores that this job may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _resize_shorter_side(image: Image.Image, length: int) -> Image.Image:
    """Halve with a box filter while twice too large, then resize bicubically."""
    while min(image.size) >= 2 * length:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = length / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _as_it_is(batch: Any) -> Any:
    return batch
