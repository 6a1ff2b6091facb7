"""Images in shards: uint8 (n, H, W, C) .npy files, memory-mapped, with tensors beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap import files
from ppap.errors import DataError

_RESIDENT = 1 << 27  # bytes read before they are handed back


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
        self._pages = _Pages([torch.from_numpy(array) for array in self.maps])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, indices: Tensor) -> NDArray[np.uint8]:
        """The images at these indices, in this order: (len(indices), H, W, C)."""
        wanted = indices.cpu().numpy()
        out = np.empty((len(wanted), *self.maps[0].shape[1:]), np.uint8)
        shard = np.searchsorted(self.starts, wanted, side="right") - 1
        for s in np.unique(shard):
            mine = shard == s
            out[mine] = self.maps[s][wanted[mine] - self.starts[s]]
        self._pages.touched(out.nbytes)
        return out


class ShardedTargets:
    """A teacher's answers on the images, memory-mapped: `take(i, mirrored)` gives float32 (B, ...)."""

    def __init__(self, paths: list[Path], sizes: list[int]) -> None:
        self.shards = [files.map_tensors(path) for path in paths]
        for path, shard, size in zip(paths, self.shards, sizes, strict=True):
            if any(len(tensor) != size for tensor in shard.values()) or "image" not in shard:
                raise DataError(f"{path}: does not hold the answers for {size} images")
        self.starts = np.cumsum([0, *sizes])
        self._pages = _Pages([tensor for shard in self.shards for tensor in shard.values()])

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Answers for these images, for the mirror image where `mirrored` (B,) is true."""
        wanted, flipped = indices.numpy(), mirrored.numpy()
        out = torch.empty(len(wanted), *self.shards[0]["image"].shape[1:])
        shard = np.searchsorted(self.starts, wanted, side="right") - 1
        for s in np.unique(shard):
            for side, of_side in (("image", ~flipped), ("mirror", flipped)):
                mine = torch.from_numpy((shard == s) & of_side)
                if mine.any():
                    rows = indices[mine] - int(self.starts[s])
                    out[mine] = self.shards[s][side][rows].float()
        self._pages.touched(out.nbytes)
        return out


class _Pages:
    """Keeps what is resident of memory-mapped tensors small: pages that were read are handed back in time.

    They stay in the kernel's cache, which is nobody's; a job's own memory is what a cluster limits.
    """

    def __init__(self, mapped: list[Tensor]) -> None:
        self.mapped, self.read = mapped, 0

    def touched(self, size: int) -> None:
        self.read += size
        if self.read > _RESIDENT:
            for tensor in self.mapped:
                files.release(tensor)
            self.read = 0
