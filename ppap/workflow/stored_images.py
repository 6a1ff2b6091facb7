"""The preset's images, read from where the workflow keeps them: real ones, clean ones, and samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config.runs import Run
from ppap.data import datasets
from ppap.data.datasets import RealImages, Split
from ppap.data.images import to_tensor
from ppap.data.shards import LATENT, ShardedAnswers, ShardedImages
from ppap.diffusion.sampling import Seeds
from ppap.utils import files, tensor_spec
from ppap.utils.device import device_of
from ppap.utils.settings import DATASET
from ppap.utils.tensor_spec import TARGET
from ppap.workflow import networks, targets
from ppap.workflow.layout import Layout

# -- real images -----------------------------------------------------------------------------------


def real(layout: Layout, split: Split) -> RealImages:
    return datasets.load(layout.preset.dataset, split, layout.model(DATASET))


def truth_of(layout: Layout, data: RealImages, model: str) -> Tensor:
    """Return what is true of real images for the task of a guide, a judge or the evaluator: (N, ...)."""
    if layout.preset.task_of(model).own_look:
        return looked_at(layout, model, torch.from_numpy(data.images))
    return told_truth(layout, data, model)


def told_truth(layout: Layout, data: RealImages, model: str) -> Tensor:
    """Return what the data set, or the pictures, say to a network that is to learn its task: (N, ...)."""
    preset, task = layout.preset, layout.preset.task_of(model)
    seen = to_tensor(data.images) if task.own_truth else torch.empty(0)
    return task.truth(seen, data.truths, preset.task_name(model))


def looked_at(layout: Layout, model: str, images: Tensor) -> Tensor:
    """Return what a guide or a judge itself sees in images, uint8 (N, H, W, C), as targets: (N, ...) on the CPU."""
    guide, task = networks.load_guide(layout, model), layout.preset.task_of(model)
    batches = to_tensor(images).split(layout.preset.sampling.judged_at_once)
    with torch.inference_mode():
        return torch.cat([task.target_of(guide(batch.to(guide.device)).float()).cpu() for batch in batches])


# -- clean images ----------------------------------------------------------------------------------


def clean_seeds(layout: Layout, shard: int) -> Seeds:
    clean, size = layout.preset.clean_images, layout.clean_sizes[shard]
    return [(clean.seed, shard * clean.shard_size + i) for i in range(size)]


def clean(layout: Layout, shards: range | None = None, finished: bool = False) -> ShardedImages:
    """Open the images that the diffusion model drew without guidance, or some shards of them.

    Experts see them as they are, their teachers finished: drawn larger by the second stage of a cascade. Those of a
    latent model are its latents, finished or not.
    """
    chosen = range(len(layout.clean_sizes)) if shards is None else shards
    paths, sizes = [layout.clean(shard) for shard in chosen], [layout.clean_sizes[shard] for shard in chosen]
    if layout.preset.diffusion.latent_space:
        return ShardedImages(paths, sizes, layout.preset.drawn_shape, LATENT)
    return _opened(layout, paths, sizes, finished)


def labelled(layout: Layout, guide: str) -> tuple[ShardedImages, ShardedAnswers]:
    """Open all clean images, and this guide's answers on them; DataError if these are on others, or another guide's."""
    preset, images = layout.preset, clean(layout)
    parts = range(len(layout.label_sizes))
    firsts = images.firsts
    answers = ShardedAnswers(
        [layout.labels(guide, part) for part in parts],
        layout.label_sizes,
        preset.task_of(guide).shape,
        preset.mirrored,
        [labels_identity(layout, guide, [firsts[i] for i in layout.shards_of_part(part)]) for part in parts],
    )
    return images, answers


def estimated(layout: Layout) -> ShardedImages:
    """Open the stored estimates of all clean images, `clean_images.estimates` of each in a row."""
    each, shape = layout.preset.clean_images.estimates, layout.preset.drawn_shape
    paths = [layout.estimates(shard) for shard in range(len(layout.clean_sizes))]
    return ShardedImages(paths, [size * each for size in layout.clean_sizes], shape, LATENT)


def labels_identity(layout: Layout, guide: str, firsts: Iterable[NDArray[Any]]) -> dict[str, str]:
    """Tell a guide's answers on these shards from others, by the first image of each; it is the file's metadata."""
    weights = files.sha256(layout.model(guide))
    return {"guide_sha256": weights, "images": " ".join(map(_digest, firsts))}


# -- samples ---------------------------------------------------------------------------------------


def sample_seeds(layout: Layout, shard: int) -> Seeds:
    """Return the seeds of a shard of samples: places count anew for each sampling seed."""
    sampling, size = layout.preset.sampling, layout.sample_sizes[shard]
    places = range(shard * sampling.shard_size, shard * sampling.shard_size + size)
    return [(sampling.seeds[i // sampling.samples], i % sampling.samples) for i in places]


def drawn(layout: Layout, run: Run, shard: int) -> ShardedImages:
    """Open a shard of a run's samples, before a cascade's second stage."""
    return _opened(layout, [layout.samples(run, shard)], [layout.sample_sizes[shard]], finished=False)


def samples(layout: Layout, run: Run, shards: range | None = None) -> tuple[ShardedImages, Tensor]:
    """Open all finished samples of a run, or some shards of them, and read the numbers (N,) of their targets."""
    chosen = range(len(layout.sample_sizes)) if shards is None else shards
    numbers = torch.cat([_numbers(layout, run, shard) for shard in chosen])
    paths = [layout.samples(run, shard) for shard in chosen]
    return _opened(layout, paths, [layout.sample_sizes[shard] for shard in chosen], finished=True), numbers


def samples_identity(run: Run, shard: int, first: NDArray[Any]) -> dict[str, str]:
    """Tell the targets of a shard from those of others, by its first image; it is their file's metadata."""
    return {"run": " ".join(run), "shard": str(shard), "images": _digest(first)}


def _numbers(layout: Layout, run: Run, shard: int) -> Tensor:
    """Read the numbers (n,) of the targets of a shard; DataError unless these are the preset's."""
    path, size = layout.targets(run, shard), layout.sample_sizes[shard]
    about = samples_identity(run, shard, drawn(layout, run, shard).firsts[0])
    numbers = tensor_spec.read(path, targets.numbers_spec(size), about)[TARGET]
    targets.check(layout, run.guide, path, numbers, sum(layout.sample_sizes[:shard]))
    return numbers


def _opened(layout: Layout, paths: list[Path], sizes: list[int], finished: bool) -> ShardedImages:
    preset = layout.preset
    channels, height, width = preset.finished_shape if finished else preset.dataset.shape
    opened = [layout.finished(path) for path in paths] if finished else paths
    return ShardedImages(opened, sizes, (height, width, channels))


def as_drawn(layout: Layout, data: RealImages) -> NDArray[Any]:
    """Return real images as the diffusion model would draw them: of a latent model their latents, float32 (N, c, h, w)."""
    autoencoder = networks.load_autoencoder(layout)
    if autoencoder is None:
        return data.images
    device = device_of(layout.preset.runtime)
    batches = torch.from_numpy(data.images).split(1000)
    return torch.cat([autoencoder.encoded(to_tensor(few).to(device)).cpu() for few in batches]).numpy()


def _digest(image: NDArray[Any]) -> str:
    """Hash an image; no two shards begin with the same one."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:12]
