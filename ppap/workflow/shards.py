"""The shards of a preset's images, and of what is said of them, where the workflow keeps them."""

from __future__ import annotations

import torch
from torch import Tensor

from ppap.config.runs import Run
from ppap.data.shards import ShardedAnswers, ShardedImages
from ppap.utils import tensor_spec
from ppap.workflow import artefacts, targets
from ppap.workflow.artefacts import TARGET
from ppap.workflow.layout import Layout


def clean_images(layout: Layout, shards: range | None = None) -> ShardedImages:
    """Open the images that the diffusion model drew without guidance; all shards, or some."""
    chosen = range(len(layout.clean_sizes)) if shards is None else shards
    sizes = [layout.clean_sizes[shard] for shard in chosen]
    paths = [layout.clean(shard) for shard in chosen]
    return ShardedImages(paths, sizes, _stored(layout.preset.dataset.shape))


def finished_clean_images(layout: Layout, shards: range) -> ShardedImages:
    """Open the same images finished: what teachers see of them."""
    sizes = [layout.clean_sizes[shard] for shard in shards]
    paths = [layout.finished(layout.clean(shard)) for shard in shards]
    return ShardedImages(paths, sizes, _stored(layout.preset.finished_shape))


def labelled_images(layout: Layout, guide: str) -> tuple[ShardedImages, ShardedAnswers]:
    """Open all clean images, and this guide's answers on them.

    DataError if the answers are on other images, or another guide's.
    """
    preset = layout.preset
    images = clean_images(layout)
    parts = range(len(layout.label_sizes))
    firsts = images.firsts
    groups = [[firsts[shard] for shard in layout.shards_of_part(part)] for part in parts]
    answers = ShardedAnswers(
        [layout.labels(guide, part) for part in parts],
        layout.label_sizes,
        preset.task_of(guide).shape,
        preset.dataset.mirror,
        [artefacts.labels_identity(layout, guide, group) for group in groups],
    )
    return images, answers


def drawn_shard(layout: Layout, run: Run, shard: int) -> ShardedImages:
    """Open a shard of a run's samples, before a cascade's second stage."""
    size, shape = layout.sample_sizes[shard], _stored(layout.preset.dataset.shape)
    return ShardedImages([layout.samples(run, shard)], [size], shape)


def sample_shard(layout: Layout, run: Run, shard: int) -> tuple[ShardedImages, Tensor]:
    """Open the same, and read the numbers (n,) of their targets; DataError unless these are the preset's."""
    images, size = drawn_shard(layout, run, shard), layout.sample_sizes[shard]
    beside = layout.targets(run, shard)
    about = artefacts.samples_identity(run, shard, images.firsts[0])
    numbers = tensor_spec.read(beside, artefacts.targets(size), about)[TARGET]
    targets.check(layout, run.guide, beside, numbers, sum(layout.sample_sizes[:shard]))
    return images, numbers


def samples(layout: Layout, run: Run, shards: range | None = None) -> tuple[ShardedImages, Tensor]:
    """Open all finished samples of a run, or some shards of them, and read the numbers (N,) of their targets."""
    chosen = range(len(layout.sample_sizes)) if shards is None else shards
    numbers = torch.cat([sample_shard(layout, run, shard)[1] for shard in chosen])
    paths = [layout.finished(layout.samples(run, shard)) for shard in chosen]
    sizes = [layout.sample_sizes[shard] for shard in chosen]
    return ShardedImages(paths, sizes, _stored(layout.preset.finished_shape)), numbers


def _stored(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of an image in a file, where networks see one of this shape."""
    channels, height, width = shape
    return height, width, channels
