"""Images in shards: uint8 (n, H, W, C) .npy files, memory-mapped; with a teacher's answers or the numbers of targets.

Pages are handed back after every batch: they stay in the kernel's cache, which is nobody's, and out of the
job's own memory, which a cluster limits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config.runs import Run
from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY, Spec
from ppap.workflow import artefacts, targets
from ppap.workflow.artefacts import IMAGE, MIRROR, TARGET
from ppap.workflow.layout import Layout


class ShardedImages:
    """Shards of images read as one; nothing is loaded before it is asked for, and little stays in memory.

    DataError if a shard is not uint8 (n, height, width, channels), or holds another number of images
    than `sizes` says.
    """

    def __init__(self, paths: list[Path], sizes: list[int], shape: tuple[int, int, int]) -> None:
        self.maps = [files.map_array(path) for path in paths]
        for path, array, size in zip(paths, self.maps, sizes, strict=True):
            if array.shape != (size, *shape) or array.dtype != np.uint8:
                raise DataError(
                    f"{path}: holds {array.dtype} {array.shape}, expected uint8 {(size, *shape)}; "
                    f"{REMEDY}"
                )
        self.starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def firsts(self) -> list[NDArray[np.uint8]]:
        """The first image of each shard."""
        return [array[0] for array in self.maps]

    def take(self, indices: Tensor) -> NDArray[np.uint8]:
        """The images at these indices, in this order: (len(indices), H, W, C)."""
        out = np.empty((len(indices), *self.maps[0].shape[1:]), np.uint8)
        for shard, mine, rows in _by_shard(indices, self.starts):
            out[mine] = self.maps[shard][rows]
            files.release(self.maps[shard])
        return out


class ShardedTargets:
    """A teacher's answers on the images: `take(i, mirrored)` gives float32 (B, ...).

    DataError if a file is not as its description says. Whether answers are finite is seen when they are
    taken: at the paper's scale there are gigabytes, and most jobs take a part of them.
    """

    def __init__(
        self, paths: list[Path], specs: list[Spec], about: list[dict[str, str]] | None = None
    ) -> None:
        self.paths = paths
        self.shards = [
            tensor_spec.map_file(*one)
            for one in zip(paths, specs, about or [{}] * len(paths), strict=True)
        ]
        self.starts = np.cumsum([0, *(len(shard[IMAGE]) for shard in self.shards)])

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Answers for these images, for the mirror image where `mirrored` (B,) is true."""
        flipped = mirrored.numpy()
        out = np.empty((len(indices), *self.shards[0][IMAGE].shape[1:]), np.float32)
        for shard, mine, rows in _by_shard(indices, self.starts):
            for side, of_side in ((IMAGE, ~flipped[mine]), (MIRROR, flipped[mine])):
                if of_side.any():
                    answers = self.shards[shard][side][rows[of_side]]
                    if not np.isfinite(answers).all():
                        raise DataError(f"{self.paths[shard]}: {side} is not finite; {REMEDY}")
                    out[mine[of_side]] = answers
                    files.release(self.shards[shard][side])
        return torch.from_numpy(out)


def clean_images(layout: Layout, shards: range | None = None) -> ShardedImages:
    """The images that the diffusion model drew without guidance; all shards, or some."""
    chosen = range(len(layout.clean_sizes)) if shards is None else shards
    sizes = [layout.clean_sizes[shard] for shard in chosen]
    paths = [layout.clean(shard) for shard in chosen]
    return ShardedImages(paths, sizes, _stored(layout.preset.dataset.shape))


def finished_clean_images(layout: Layout, shards: range) -> ShardedImages:
    """The same images finished: what teachers see of them."""
    sizes = [layout.clean_sizes[shard] for shard in shards]
    paths = [layout.finished(layout.clean(shard)) for shard in shards]
    return ShardedImages(paths, sizes, _stored(layout.preset.finished_shape))


def labelled_images(layout: Layout, guide: str) -> tuple[ShardedImages, ShardedTargets]:
    """All clean images, and this guide's answers on them; DataError if they are of other images or another guide."""
    preset = layout.preset
    images = clean_images(layout)
    data, firsts = preset.dataset, images.firsts
    parts = range(len(layout.label_sizes))
    shape = targets.task_of(preset, guide).shape
    specs = [artefacts.labels(size, shape, data.mirror) for size in layout.label_sizes]
    groups = [[firsts[shard] for shard in layout.shards_of_part(part)] for part in parts]
    about = [artefacts.labels_identity(layout, guide, group) for group in groups]
    return images, ShardedTargets([layout.labels(guide, p) for p in parts], specs, about)


def drawn_shard(layout: Layout, run: Run, shard: int) -> ShardedImages:
    """A shard of a run's samples, before a cascade's second stage."""
    size, shape = layout.sample_sizes[shard], _stored(layout.preset.dataset.shape)
    return ShardedImages([layout.samples(run, shard)], [size], shape)


def sample_shard(layout: Layout, run: Run, shard: int) -> tuple[ShardedImages, Tensor]:
    """The same, and the numbers (n,) of their targets; DataError unless these are the preset's."""
    images, size = drawn_shard(layout, run, shard), layout.sample_sizes[shard]
    beside = layout.targets(run, shard)
    about = artefacts.samples_identity(run, shard, images.firsts[0])
    numbers = tensor_spec.read(beside, artefacts.targets(size), about)[TARGET]
    targets.check(layout, run.guide, beside, numbers, sum(layout.sample_sizes[:shard]))
    return images, numbers


def samples(layout: Layout, run: Run, shards: range | None = None) -> tuple[ShardedImages, Tensor]:
    """All finished samples of a run, or some shards of them, and the numbers (N,) of their targets."""
    chosen = range(len(layout.sample_sizes)) if shards is None else shards
    numbers = torch.cat([sample_shard(layout, run, shard)[1] for shard in chosen])
    paths = [layout.finished(layout.samples(run, shard)) for shard in chosen]
    sizes = [layout.sample_sizes[shard] for shard in chosen]
    return ShardedImages(paths, sizes, _stored(layout.preset.finished_shape)), numbers


def sha256_with(path: Path, array: NDArray[Any]) -> str:
    """The SHA-256 of the .npy file that an array in memory was read from: of the file, only the header is read."""
    with files.readable(path), path.open("rb") as file:
        digest = hashlib.sha256(file.read(path.stat().st_size - array.nbytes))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _stored(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of an image in a file, of that which networks see."""
    channels, height, width = shape
    return height, width, channels


def _by_shard(
    indices: Tensor, starts: NDArray[Any]
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Each shard that is asked for: its number, the places in the batch that want it, and its rows."""
    wanted = indices.cpu().numpy()
    shards = np.searchsorted(starts, wanted, side="right") - 1
    for shard in np.unique(shards):
        mine = np.flatnonzero(shards == shard)
        yield int(shard), mine, wanted[mine] - starts[shard]
