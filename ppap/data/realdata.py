"""Real images that are downloaded: what samples are compared with, and data sets that torch-fidelity knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppap.data.datasets import DatasetConfig, reference_images
from ppap.data.downloads import Downloads, only_one
from ppap.data.image_folder import pictures_under, read_fitted
from ppap.data.settings import ReferenceConfig
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.progress import Bar
from ppap.utils.tensor_spec import IMAGES, LABELS, MU, SIGMA

_ARCHIVED = {IMAGES: "arr_0"}
_NO_REFERENCE = "it is no reference batch of ADM's evaluator"


def reference(source: ReferenceConfig, data: DatasetConfig, downloads: Downloads) -> dict[str, Tensor]:
    """Read the reference of FID, precision and recall, downloaded if need be.

    `images` uint8 (N, H, W, 3), and where the publisher prints them `mu` (D,) and `sigma` (D, D) of their Inception
    features. Images of a folder become as large as the data set's.
    """
    if source.archive:
        with downloads.file(source.archive) as path:
            return read_archive(path)
    if source.registered:
        return {IMAGES: registered(source.registered, downloads)[IMAGES]}
    assert source.folder is not None
    return {IMAGES: read_folder(Path(source.folder), data.image_size)}


def read_archive(path: Path) -> dict[str, Tensor]:
    """Read a reference batch of ADM's evaluator: .npz with arr_0, and mu and sigma or not; other arrays are left."""
    arrays = files.read_arrays(path)
    spec = {_ARCHIVED.get(name, name): wanted for name, wanted in reference_images().items()}
    mine = {name: arrays[name] for name in spec if name in arrays}
    tensor_spec.check(path, mine, spec, _NO_REFERENCE)
    statistics = {name: torch.from_numpy(mine[name]).double() for name in (MU, SIGMA) if name in mine}
    if len(statistics) == 1:
        raise DataError(f"{path}: has one of {MU} and {SIGMA}, which belong together; {_NO_REFERENCE}")
    if SIGMA in statistics and not torch.allclose(statistics[SIGMA], statistics[SIGMA].T, rtol=1e-3):
        raise DataError(f"{path}: {SIGMA} is not symmetric, so not a covariance; {_NO_REFERENCE}")
    return {IMAGES: torch.from_numpy(mine[_ARCHIVED[IMAGES]])} | statistics


def registered(name: str, downloads: Downloads) -> dict[str, Tensor]:
    """Read a data set by its name in torch-fidelity: `images` uint8 (N, H, W, 3), and `labels` (N,) if it has any."""
    read = reader_of(name)
    folder = downloads.folder / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # a preset's data set and its reference may be the same
        with only_one(folder / f".{name}.lock"):
            data = read(str(folder), True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name}: cannot be downloaded ({error}). Without network: place torchvision's files of it "
            f"in {folder} and run the same command again"
        ) from None
    images = torch.stack([data[i] for i in Bar(range(len(data)), name, unit="image")])
    tensors = {IMAGES: images.permute(0, 2, 3, 1).contiguous()}
    labels = getattr(data, "targets", None)
    return tensors if labels is None else tensors | {LABELS: torch.tensor(labels)}


def reader_of(name: str) -> Callable[..., Any]:
    """Return what torch-fidelity reads a data set of this name with; ConfigError if it has none."""
    from torch_fidelity.registry import DATASETS_REGISTRY

    if name not in DATASETS_REGISTRY:
        raise ConfigError(f"torch-fidelity has no data set '{name}' (it has {', '.join(DATASETS_REGISTRY)})")
    return DATASETS_REGISTRY[name]


def read_folder(folder: Path, size: int) -> Tensor:
    """Read all images under a folder, resized by their shorter side and cropped to the centre: (N, size, size, 3)."""
    return read_fitted(reference_paths(folder), size, str(folder))


def reference_paths(folder: Path) -> list[Path]:
    """List all images under a folder; DataError if there are none."""
    paths = pictures_under(folder)
    if not paths:
        raise DataError(f"{folder}: no images there (evaluator.reference.folder)")
    return paths


def labelled_folder(data: DatasetConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all images of an image folder, fitted as in `read_folder`, and their classes; beside them, these' names."""
    listed = data.facts.listed(data)
    images = read_fitted(listed.paths, data.image_size, str(data.path))
    return {IMAGES: images, LABELS: torch.tensor(listed.labels)}, {"class_names": json.dumps(listed.names)}
