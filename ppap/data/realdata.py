"""Real images that are downloaded: what samples are compared with, and data sets that torch-fidelity knows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ppap.config import Preset
from ppap.data.downloads import Downloads, only_one
from ppap.data.image_folder import centred, pictures_under, read_image
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.progress import Bar
from ppap.workflow.artefacts import IMAGES, LABELS, MU, SIGMA, check_statistics, reference_images

_ARCHIVED = {IMAGES: "arr_0"}
_NO_REFERENCE = "it is no reference batch of ADM's evaluator"


def reference(preset: Preset, downloads: Downloads) -> dict[str, Tensor]:
    """The reference of FID, precision and recall: `images` uint8 (N, H, W, 3), and `mu` (D,) and `sigma`
    (D, D) of their Inception features where the publisher prints them."""
    source = preset.evaluator.compared_with
    assert source is not None
    if source.archive:
        with downloads.file(source.archive) as path:
            return read_archive(path)
    if source.registered:
        return {IMAGES: registered(source.registered, downloads)[IMAGES]}
    assert source.folder is not None
    return {IMAGES: read_folder(Path(source.folder), preset.dataset.image_size)}


def read_archive(path: Path) -> dict[str, Tensor]:
    """A reference batch of ADM's evaluator: .npz with arr_0, and mu and sigma or not; other arrays are left."""
    arrays = files.read_arrays(path)
    spec = {_ARCHIVED.get(name, name): wanted for name, wanted in reference_images().items()}
    mine = {name: arrays[name] for name in spec if name in arrays}
    tensor_spec.check(path, mine, spec, _NO_REFERENCE)
    found = {name: torch.from_numpy(mine[name]).double() for name in (MU, SIGMA) if name in mine}
    check_statistics(path, found, _NO_REFERENCE)
    return {IMAGES: torch.from_numpy(mine[_ARCHIVED[IMAGES]])} | found


def registered(name: str, downloads: Downloads) -> dict[str, Tensor]:
    """A data set by its name in torch-fidelity: `images` uint8 (N, H, W, 3), and `labels` (N,) if it has any."""
    from torch_fidelity.registry import DATASETS_REGISTRY

    if name not in DATASETS_REGISTRY:
        there = ", ".join(DATASETS_REGISTRY)
        raise ConfigError(f"torch-fidelity has no data set '{name}' (it has {there})")
    folder = downloads.folder / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with only_one(
            folder / f".{name}.lock"
        ):  # a preset's data set and reference may be the same
            data = DATASETS_REGISTRY[name](str(folder), True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name}: cannot be downloaded ({error}). Without network: place torchvision's files of it "
            f"in {folder} and run the same command again"
        ) from None
    images = torch.stack([data[i] for i in Bar(range(len(data)), name, unit="image")])
    found = {IMAGES: images.permute(0, 2, 3, 1).contiguous()}
    labels = getattr(data, "targets", None)
    return found if labels is None else found | {LABELS: torch.tensor(labels)}


def read_folder(folder: Path, size: int) -> Tensor:
    """All images under a folder, resized by their shorter side and cropped to the centre: (N, size, size, 3)."""
    paths = pictures_under(folder)
    if not paths:
        raise DataError(f"{folder}: no images there (evaluator.reference.folder)")
    images = [centred(read_image(path), size) for path in Bar(paths, str(folder), unit="image")]
    return torch.stack(images).contiguous()
