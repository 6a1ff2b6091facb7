"""Limits of a preset's sizes: more than any machine holds, or any scheduler takes, is a slip of the pen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ppap.config.contents import networks

if TYPE_CHECKING:
    from ppap.config.preset import Preset

LARGEST = 64 << 30  # bytes of a network, a batch or a set of samples: no job's memory holds more
_SHARDS = 100_000
_FLOAT = 4


def excesses(preset: Preset) -> Iterator[str]:
    """What is beyond them, a line each, with its key in front."""
    clean, sampling, data = preset.clean_images, preset.sampling, preset.dataset
    for key, count, shard in (
        ("clean_images", clean.count, clean.shard_size),
        ("sampling", sampling.total, sampling.shard_size),
    ):
        if count > _SHARDS * shard:
            yield f"{key}.shard_size: {count} images in shards of {shard} are more than {_SHARDS} jobs"
    pixels = data.channels * data.image_size**2
    for key, images, size in (
        ("clean_images.shard_size", min(clean.shard_size, clean.count), pixels),
        ("sampling.samples", sampling.total, pixels),
        ("clean_images.batch_size", min(clean.batch_size, clean.count), pixels * _FLOAT),
        ("sampling.batch_size", min(sampling.judged_at_once, sampling.total), pixels * _FLOAT),
        *_upsampled(preset),
        ("figures.samples", preset.figures.samples, pixels * _FLOAT),
        ("figures.images", preset.figures.images, pixels * _FLOAT),
        *_training_batches(preset),
    ):
        if images * size > LARGEST:
            yield (
                f"{key}: {images} images at a time take {images * size / 2**30:.0f} GiB; "
                f"at most {LARGEST >> 30} are possible"
            )


def _upsampled(preset: Preset) -> Iterator[tuple[str, int, int]]:
    """The batch of a cascade's second stage, as `_training_batches` gives batches."""
    if spec := preset.diffusion.upsampling:
        key = f"diffusion.{preset.diffusion.source.upsampling}.batch_size"
        yield key, spec.batch_size, preset.dataset.channels * spec.image_size**2 * _FLOAT


def _training_batches(preset: Preset) -> Iterator[tuple[str, int, int]]:
    """Every batch that something is trained on: its key, its images, and the bytes of one as the network sees it."""
    channels, size = preset.dataset.channels, preset.dataset.image_size
    if training := preset.diffusion.training:
        yield "diffusion.train.batch_size", training.batch_size, channels * size**2 * _FLOAT
    for name, spec in networks(preset):
        seen = channels * max(size, spec.input_size or 0) ** 2 * _FLOAT
        if spec.train:
            yield f"{preset.key(name)}.train.batch_size", spec.train.batch_size, seen
        if name in preset.guides:
            batch = preset.guides[name].experts.batch_size
            yield f"{preset.key(name)}.experts.batch_size", batch, seen
