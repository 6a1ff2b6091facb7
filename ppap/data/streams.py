"""Batches for training from data sets that are too large for memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ppap.data.image_folder import LabelledBatch, TrainingBatches, list_files
from ppap.data.settings import DatasetConfig
from ppap.utils.errors import DataError

Batches = Callable[[int], LabelledBatch]
"""The random batch of a training step: it depends on seed and step alone."""


def training_batches(
    data: DatasetConfig, batch_size: int, seed: int, device: torch.device
) -> Batches:
    """Batches of a streamed data set's images, cropped at random; DataError if the images cannot be read."""
    return STREAMS[data.kind](data, batch_size, seed, device)


def _image_folder(data: DatasetConfig, batch_size: int, seed: int, device: torch.device) -> Batches:
    try:
        found = list_files(Path(data.path or ""), data.classes)
    except DataError as error:
        raise DataError(
            f"dataset.path: {error}; `supervised: false` leaves out the rows that need it"
        ) from None
    return TrainingBatches(found, data.image_size, batch_size, seed, data.mirror, device=device)


STREAMS: dict[str, Callable[[DatasetConfig, int, int, torch.device], Batches]] = {
    "image_folder": _image_folder,
}
