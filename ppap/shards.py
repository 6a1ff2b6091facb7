"""Images in shards: uint8 (n, H, W, C) .npy files, memory-mapped, with tensors beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap import files
from ppap.errors import DataError


class ShardedImages:
    """Shards of images read as one; nothing is loaded before it is asked for.

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
        wanted = indices.cpu().numpy()
        out = np.empty((len(wanted), *self.maps[0].shape[1:]), np.uint8)
        shard = np.searchsorted(self.starts, wanted, side="right") - 1
        for s in np.unique(shard):
            mine = shard == s
            out[mine] = self.maps[s][wanted[mine] - self.starts[s]]
        return out


class ShardedTargets:
    """A teacher's answers, shard by shard beside the images: `take(i, mirrored)` gives (B, ...)."""

    def __init__(self, paths: list[Path], sizes: list[int]) -> None:
        self.shards = [files.read_tensors(path) for path in paths]
        for path, shard, size in zip(paths, self.shards, sizes, strict=True):
            if any(len(tensor) != size for tensor in shard.values()) or "image" not in shard:
                raise DataError(f"{path}: does not hold the answers for {size} images")
        self.starts = np.cumsum([0, *sizes])

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
        return out
