"""Images in shards, memory-mapped .npy files of uint8 (n, H, W, C) or latents (n, c, h, w), and a teacher's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import IMAGE, MIRROR, REMEDY, Spec, TensorSpec


def answers_spec(count: int, shape: tuple[int | str, ...], mirrored: bool) -> Spec:
    """Describe the file of a teacher's answers, each of this shape, on `count` images, and on their mirror images
    where these are valid."""
    answers = TensorSpec(("float16", "float32"), (count, *shape))
    return {IMAGE: answers} | ({MIRROR: answers} if mirrored else {})


LATENT = np.float16
"""The numbers of stored latents, whose rounding is far below their noise."""


class ShardedImages:
    """Shards of images read as one; nothing is loaded before it is asked for.

    DataError if a shard is not of this type, uint8 of pixels (n, height, width, channels) or `LATENT` of latents, or
    holds another number of images than `sizes` says.
    """

    def __init__(
        self, paths: Sequence[Path], sizes: Sequence[int], shape: tuple[int, int, int], dtype: type[Any] = np.uint8
    ) -> None:
        self.maps = [_mapped(*one, shape, dtype) for one in zip(paths, sizes, strict=True)]
        self.starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def firsts(self) -> list[NDArray[Any]]:
        """The first image of each shard."""
        return [array[0] for array in self.maps]

    def take(self, indices: Tensor) -> NDArray[Any]:
        """Read the images at these indices, in this order: (len(indices), ...)."""
        out = np.empty((len(indices), *self.maps[0].shape[1:]), self.maps[0].dtype)
        for shard, mine, rows in _by_shard(indices, self.starts):
            out[mine] = self.maps[shard][rows]
        return out


class ShardedAnswers:
    """A teacher's answers on the images: `take(i, mirrored)` gives float32 (B, ...).

    Each file holds the answers on `size` images; `about` is what its metadata must say. DataError if one is another.
    Whether answers are finite is seen when they are taken: at the paper's scale there are gigabytes, and most jobs
    take a part of them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        sizes: Sequence[int],
        shape: tuple[int, ...],
        mirrored: bool,
        about: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        self.paths = paths
        said = about or [{} for _ in paths]
        self.shards = [
            tensor_spec.map_file(path, answers_spec(size, shape, mirrored), one)
            for path, size, one in zip(paths, sizes, said, strict=True)
        ]
        self.starts = np.cumsum([0, *sizes])

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return answers on these images, on the mirror image where `mirrored` (B,) is true."""
        flipped = mirrored.numpy()
        out = np.empty((len(indices), *self.shards[0][IMAGE].shape[1:]), np.float32)
        for shard, mine, rows in _by_shard(indices, self.starts):
            for side, of_side in ((IMAGE, ~flipped[mine]), (MIRROR, flipped[mine])):
                if of_side.any():
                    answers = self.shards[shard][side][rows[of_side]]
                    if not np.isfinite(answers).all():
                        raise DataError(f"{self.paths[shard]}: {side} is not finite; {REMEDY}")
                    out[mine[of_side]] = answers
        return torch.from_numpy(out)


def _mapped(path: Path, size: int, shape: tuple[int, int, int], dtype: type[Any]) -> NDArray[Any]:
    array = files.map_array(path)
    if array.shape != (size, *shape) or array.dtype != dtype:
        wanted = f"{np.dtype(dtype)} {(size, *shape)}"
        raise DataError(f"{path}: holds {array.dtype} {array.shape}, expected {wanted}; {REMEDY}")
    return array


def _by_shard(indices: Tensor, starts: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Yield each shard that is asked for: its number, the places in the batch that want it, and its rows."""
    wanted = indices.cpu().numpy()
    shards = np.searchsorted(starts, wanted, side="right") - 1
    for shard in np.unique(shards):
        mine = np.flatnonzero(shards == shard)
        yield int(shard), mine, wanted[mine] - starts[shard]
