"""The drawing of images shard by shard: clean ones without guidance, and the samples of guided runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config import Preset
from ppap.config.guidance_scales import guidance_scale
from ppap.config.runs import Run
from ppap.diffusion.batch_sizes import batch_size
from ppap.diffusion.batches import Drawing, GuidanceFor, draw
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import GuideAt, NoGuidance, Objective
from ppap.diffusion.trajectory import Seeds
from ppap.experts.bank import ExpertBank, bank_of
from ppap.guides.guide import Guide
from ppap.utils import files, runtime
from ppap.workflow import networks as models
from ppap.workflow import targets
from ppap.workflow.artefacts import TARGET, samples_identity
from ppap.workflow.checkpoints import Checkpoint
from ppap.workflow.layout import Layout, one_of
from ppap.workflow.target_files import real_pictures


def generate(layout: Layout, index: int, checkpoint: Checkpoint) -> None:
    """Draw one shard of clean images, without guidance, and write it."""
    preset = layout.preset
    clean = preset.clean_images
    size = one_of(layout.clean_sizes, index)
    drawing = Drawing(
        name=f"clean images {index}",
        seeds=clean_seeds(layout, index),
        targets=torch.zeros(size, dtype=torch.int64),
        shape=preset.dataset.shape,
        batch_size=clean.batch_size,
        checkpoint=checkpoint,
        checkpoint_every=preset.sampling.checkpoint_every,
    )
    files.check_writable(layout.clean(index), checkpoint.path)
    denoiser = models.load_denoiser(layout, clean.sampler)
    images = _draw(preset, drawing, denoiser, clean.sampler, lambda targets: NoGuidance())
    files.write_array(layout.clean(index), images)
    checkpoint.drop()


def sample(layout: Layout, run: Run, index: int, checkpoint: Checkpoint) -> None:
    """Draw one shard of a guided run; write its images, and the numbers of their targets beside them."""
    size = one_of(layout.sample_sizes, index)
    first = index * layout.preset.sampling.shard_size
    numbers = targets.numbers(layout, run.guide)[first : first + size]
    path = layout.samples(run, index)
    files.check_writable(path, checkpoint.path)
    if layout.preset.guidance(run.method).drawn:
        images = _drawn(layout, run, index, numbers, checkpoint)
    else:
        images = real_pictures(layout, run, numbers)
    about = samples_identity(run, index, images[0])
    beside = files.tensors_writer({TARGET: numbers}, about)
    files.write_all({layout.targets(run, index): beside, path: files.array_writer(images)})
    checkpoint.drop()


def clean_seeds(layout: Layout, index: int) -> Seeds:
    """Of the clean images of a shard."""
    clean, size = layout.preset.clean_images, layout.clean_sizes[index]
    return [(clean.seed, index * clean.shard_size + i) for i in range(size)]


def sample_seeds(layout: Layout, index: int) -> Seeds:
    """Of the samples of a shard: places count anew for each sampling seed."""
    sampling, size = layout.preset.sampling, layout.sample_sizes[index]
    places = range(index * sampling.shard_size, index * sampling.shard_size + size)
    return [(sampling.seeds[i // sampling.samples], i % sampling.samples) for i in places]


def _drawn(
    layout: Layout, run: Run, index: int, numbers: Tensor, checkpoint: Checkpoint
) -> NDArray[np.uint8]:
    """A shard of a run, guided to the targets with these numbers."""
    preset, sampling = layout.preset, layout.preset.sampling
    drawing = Drawing(
        name=f"{run.guide} {run.method} {run.sampler} {index}",
        seeds=sample_seeds(layout, index),
        targets=numbers,
        shape=preset.dataset.shape,
        batch_size=batch_size(preset),
        checkpoint=checkpoint,
        checkpoint_every=sampling.checkpoint_every,
    )
    denoiser = models.load_denoiser(layout, run.sampler)
    return _draw(preset, drawing, denoiser, run.sampler, guidance_for(layout, run))


def guidance_for(layout: Layout, run: Run) -> GuidanceFor:
    """The run's guidance, its networks loaded."""
    preset = layout.preset
    kind = preset.guidance(run.method)
    if not kind.guided:
        return lambda numbers: kind.build(None, _no_objective, 0.0)
    guide, scale = guide_at(layout, run), guidance_scale(preset, run.sampler, run.guide)
    wanted = objective_of(layout, run.guide)
    return lambda numbers: kind.build(guide, wanted(numbers), scale)


def objective_of(layout: Layout, guide: str) -> Callable[[Tensor], Objective]:
    """What guidance is to raise, of the numbers (B,) of targets."""
    task, take = targets.task_of(layout.preset, guide), targets.taker(layout, guide)
    return lambda numbers: task.objective(take(numbers))


def _no_objective(answers: Tensor) -> Tensor:
    raise AssertionError("guidance without a guide has no objective")


def guide_at(layout: Layout, run: Run) -> GuideAt:
    """The run's guide, or its experts, loaded."""
    return guide_of(layout, run).at


def guide_of(layout: Layout, run: Run) -> Guide | ExpertBank:
    """The same as an object."""
    preset, guide = layout.preset, models.load_guide(layout, run.guide)
    experts = preset.guidance(run.method).experts
    found = bank_of(layout, run.guide, run.method, guide) if experts else guide
    models.hold_precision(layout, run.guide, guide)  # after the bank, which merges in float32
    return found


def _draw(
    preset: Preset, drawing: Drawing, denoiser: Denoiser, sampler: str, guidance: GuidanceFor
) -> NDArray[np.uint8]:
    with runtime.autocast(preset.runtime):
        device = runtime.device(preset.runtime)
        chosen = preset.sampler(sampler).build(preset.samplers[sampler])
        return draw(drawing, denoiser, chosen, guidance, device)
