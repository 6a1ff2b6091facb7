"""Pictures in folders, as people have them: how they are found and read; and those of torchvision's layout
(FOLDER/CLASS/IMAGE), whole or in random batches for training."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ppap.data.augmentation import random_crop
from ppap.data.images import to_tensor
from ppap.data.loading import load
from ppap.utils.errors import DataError
from ppap.utils.progress import Bar
from ppap.utils.seeds import Stream, mix

_CPU = torch.device("cpu")
_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".tga", ".jp2", ".avif", ".heic", ".heif", ".jxl", ".psd", ".svg", ".cr2", ".nef", ".arw", ".dng",
))  # fmt: skip
"""Suffixes of pictures: those that Pillow cannot read are refused by their names, rather than left out."""
_JUNK = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that systems make beside the user's."""
_MANY = 200  # files from which on worker processes are worth it


class LabelledFiles(NamedTuple):
    """Image files and their classes: a class's index is its place among the sorted folder names."""

    paths: list[str]
    labels: list[int]
    names: list[str]


class LabelledBatch(NamedTuple):
    """images: float32 (B, 3, S, S) in [-1, 1]; labels: int64 (B,)."""

    images: Tensor
    labels: Tensor


def list_files(folder: Path, classes: int) -> LabelledFiles:
    """List the images of a folder; DataError if it is missing, or has not `classes` folders with images."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images (one folder a class)")
    names = sorted(each.name for each in folder.glob("[!.]*") if each.is_dir() and each.name not in _JUNK)
    if loose := [path for path in pictures_under(folder, deep=False) if path.is_file()]:
        raise DataError(f"{loose[0]}: lies in no class's folder; write {folder}/CLASS/{loose[0].name}")
    if len(names) != classes:
        shown = ", ".join(names[:10]) + " ..." * (len(names) > 10)
        raise DataError(f"{folder}: holds {len(names)} classes, the preset has {classes} ({shown})")
    listed = LabelledFiles([], [], names)
    for label, name in enumerate(names):
        pictures = sorted(pictures_under(folder / name), key=lambda path: (str(path.parent), path.name))
        if not pictures:
            raise DataError(f"{folder / name}: no images in this class's folder")
        listed.paths.extend(map(str, pictures))
        listed.labels.extend([label] * len(pictures))
    return listed


def pictures_under(folder: Path, others: Sequence[str] = (), deep: bool = True) -> list[Path]:
    """List the images anywhere under a folder, or if not `deep` in it, and files with these other suffixes, by name."""
    return sorted(_pictures(folder, _SUFFIXES.union(others), deep))


def _pictures(folder: Path, suffixes: Set[str], deep: bool, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Walk a folder and linked ones in it, but for links back `above`, and for what is hidden, such as `._a.png`."""
    here = folder.resolve()
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in _JUNK:
                continue
            if entry.is_dir():
                if deep:
                    yield from _pictures(path, suffixes, deep, above | {here})
            elif path.suffix.lower() in suffixes:
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
        self.crops = _Crops(files, image_size, batch_size, seed, mirror)
        self.device, self.workers = device, _cores() if workers is None else workers
        self._next = -1
        self._loaded: Iterator[LabelledBatch] = iter(())

    def __call__(self, step: int) -> LabelledBatch:
        if step != self._next:
            self._loaded = load(self.crops.of, self.crops.draws(step), self.device, self.workers)
        pixels, labels = (part.to(self.device, non_blocking=True) for part in next(self._loaded))
        self._next = step + 1
        return LabelledBatch(to_tensor(pixels), labels)


class _Crops(NamedTuple):
    """The choices of each step. They know nothing of workers: in a cycle with them they would end ten seconds late."""

    files: LabelledFiles
    image_size: int
    batch_size: int
    seed: int
    mirror: bool

    def draws(self, step: int) -> Iterator[list[tuple[int, int]]]:
        """Yield what is drawn in each step, from this one on, without end.

        Each file's number comes with its place among all that are drawn, which decides its crop.
        """
        count, epoch = len(self.files.paths), -1
        while True:
            batch = []
            for place in range(step * self.batch_size, (step + 1) * self.batch_size):
                if place // count != epoch:
                    epoch = place // count
                    order = np.random.default_rng(mix(Stream.EPOCH, self.seed, epoch)).permutation(count)
                batch.append((int(order[place % count]), place))
            yield batch
            step += 1

    def of(self, draws: list[tuple[int, int]]) -> LabelledBatch:
        """Make the uint8 crops (B, S, S, 3) of a batch."""
        crops = np.stack([self._crop(self.files.paths[file], place) for file, place in draws])
        return LabelledBatch(torch.from_numpy(crops), torch.tensor([self.files.labels[file] for file, _ in draws]))

    def _crop(self, path: str, place: int) -> NDArray[np.uint8]:
        random = Random(mix(Stream.CROP, self.seed, place))
        crop = random_crop(read_image(path), self.image_size, random)
        return crop[:, ::-1] if self.mirror and random.random() < 0.5 else crop


def read_image(path: str | Path) -> Image.Image:
    """Read an image as RGB, as a viewer shows it; DataError, naming the file, if it cannot be decoded.

    It is turned as EXIF says; what is transparent is white; of several pages or frames the first is read, and of
    16 bits the upper 8. Colour profiles are not applied.
    """
    with decoding(path), Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)


@contextlib.contextmanager
def decoding(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder stumbles over into a DataError that names the file, which is no picture then."""
    try:
        # what is warned of is read; a picture of twice that size is an error
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            yield
    except Exception as error:
        raise DataError(f"{path}: cannot be decoded ({' '.join(str(error).split())})") from None


def read_fitted(paths: Sequence[str | Path], size: int, name: str) -> Tensor:
    """Read images, resized by their shorter side and cropped to the centre: uint8 (N, size, size, 3).

    DataError if one cannot be decoded, or all of them do not fit into memory.
    """
    try:
        images = torch.empty((len(paths), size, size, 3), dtype=torch.uint8)
    except RuntimeError:
        raise DataError(f"{name}: {len(paths)} images of {size} pixels a side do not fit into memory") from None
    read = _each(lambda path: centred(read_image(path), size), paths)
    for place, image in enumerate(Bar(read, name, len(paths), unit="image")):
        images[place] = image
    return images


def unreadable(paths: Sequence[str | Path]) -> Iterator[str]:
    """Decode each file, and say of those that are no pictures what is wrong with them."""

    def wrong(path: str | Path) -> str | None:
        try:
            read_image(path)
        except DataError as error:
            return str(error)
        return None

    return filter(None, Bar(_each(wrong, paths), "pictures", len(paths), unit="image"))


def _each(read: Callable[[str | Path], Any], paths: Sequence[str | Path]) -> Iterator[Any]:
    """Yield what `read` makes of each file, in order; of many by worker processes."""
    return load(read, paths, _CPU, _cores() if len(paths) > _MANY else 0)


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
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _cores() -> int:
    """Count the cores that this job may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
