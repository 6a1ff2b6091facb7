"""Images in shards: uint8 (n, H, W, C) .npy files, memory-mapped, with a teacher's answers beside them.

Pages are handed back after every batch: they stay in the kernel's cache, which is nobody's, and out of the
job's own memory, which a cluster limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap import files
from ppap.errors import DataError


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
                    f"{path}: holds {array.dtype} {array.shape}, expected uint8 {(size, *shape)}"
                )
        self.starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, indices: Tensor) -> NDArray[np.uint8]:
        """The images at these indices, in this order: (len(indices), H, W, C)."""
        out = np.empty((len(indices), *self.maps[0].shape[1:]), np.uint8)
        for shard, mine, rows in _by_shard(indices, self.starts):
            out[mine] = self.maps[shard][rows]
            files.release(self.maps[shard])
        return out


class ShardedTargets:
    """A teacher's answers on the images: `take(i, mirrored)` gives float32 (B, ...).

    DataError if a file does not hold as many answers as `sizes` says.
    """

    def __init__(self, paths: list[Path], sizes: list[int]) -> None:
        self.shards = [files.map_tensors(path) for path in paths]
        for path, shard, size in zip(paths, self.shards, sizes, strict=True):
            if any(len(array) != size for array in shard.values()) or "image" not in shard:
                raise DataError(f"{path}: does not hold the answers for {size} images")
        self.starts = np.cumsum([0, *sizes])

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Answers for these images, for the mirror image where `mirrored` (B,) is true."""
        flipped = mirrored.numpy()
        out = np.empty((len(indices), *self.shards[0]["image"].shape[1:]), np.float32)
        for shard, mine, rows in _by_shard(indices, self.starts):
            for side, of_side in (("image", ~flipped[mine]), ("mirror", flipped[mine])):
                if of_side.any():
                    out[mine[of_side]] = self.shards[shard][side][rows[of_side]]
                    files.release(self.shards[shard][side])
        return torch.from_numpy(out)


def _by_shard(
    indices: Tensor, starts: NDArray[Any]
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Each shard that is asked for: its number, the places in the batch that want it, and its rows."""
    wanted = indices.cpu().numpy()
    shards = np.searchsorted(starts, wanted, side="right") - 1
    for shard in np.unique(shards):
        mine = np.flatnonzero(shards == shard)
        yield int(shard), mine, wanted[mine] - starts[shard]
