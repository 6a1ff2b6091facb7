"""The second stage of a cascade, shard by shard: clean images and guided samples, drawn larger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ppap.config.runs import Run
from ppap.data import datasets
from ppap.data.shards import ShardedImages
from ppap.diffusion.batches import Drawing, in_batches
from ppap.diffusion.cascade import Cascade, CascadeState
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.samplers import State
from ppap.diffusion.trajectory import Seeds
from ppap.utils import files
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.device import device_of
from ppap.utils.mixed_precision import autocast
from ppap.workflow.cascade import load_second_stage
from ppap.workflow.drawing import clean_seeds, sample_seeds
from ppap.workflow.layout import Layout, one_of
from ppap.workflow.shards import clean_images, drawn_shard


def upsample_clean(layout: Layout, shard: int, checkpoint: Checkpoint) -> None:
    """Draw a shard of clean images larger, and write it."""
    one_of(layout.clean_sizes, shard)
    images = clean_images(layout, range(shard, shard + 1))
    out = layout.upsampled(layout.clean(shard))
    name = f"clean images {shard}, upsampled"
    _upsample(layout, name, images, clean_seeds(layout, shard), out, checkpoint)


def upsample_samples(layout: Layout, run: Run, shard: int, checkpoint: Checkpoint) -> None:
    """Draw a shard of a run's samples larger, and write it."""
    one_of(layout.sample_sizes, shard)
    images = drawn_shard(layout, run, shard)
    out = layout.upsampled(layout.samples(run, shard))
    name = f"{run.guide} {run.method} {run.sampler} {shard}, upsampled"
    _upsample(layout, name, images, sample_seeds(layout, shard), out, checkpoint)


def _upsample(
    layout: Layout,
    name: str,
    images: ShardedImages,
    seeds: Seeds,
    out: Path,
    checkpoint: Checkpoint,
) -> None:
    preset = layout.preset
    files.check_writable(out, checkpoint.path)
    second, device = load_second_stage(layout), device_of(preset.runtime)
    cascade, spec = Cascade(None, second), preset.diffusion.upsampling
    assert spec is not None  # or there is no second stage
    drawing = Drawing(
        name=name,
        seeds=seeds,
        targets=torch.zeros(len(seeds), dtype=torch.int64),
        shape=second.shape,
        batch_size=spec.batch_size,
        checkpoint=checkpoint,
        checkpoint_every=preset.sampling.checkpoint_every,
    )

    def low_res(chosen: slice) -> Tensor:
        places = torch.arange(len(images))[chosen]
        return datasets.to_tensor(torch.from_numpy(images.take(places)).to(device))

    def begin(chosen: slice) -> State:
        return cascade.begin_upsampling(low_res(chosen), seeds[chosen]).state

    def follow(chosen: slice, state: State) -> Iterator[State]:
        at = CascadeState(state, low_res(chosen))
        for reached in cascade.states(name, NoGuidance(), at, seeds[chosen]):
            yield reached.state

    with autocast(preset.runtime):
        drawn = in_batches(drawing, len(second.schedule), begin, follow, device)
    files.write_array(out, drawn)
    checkpoint.drop()
