"""The drawing of images shard by shard: clean ones without guidance, and the samples of guided runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ppap.data import datasets
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance, GuideAt, NoGuidance, Objective
from ppap.diffusion.samplers import Sampler, State
from ppap.diffusion.trajectory import noise_state, trajectory
from ppap.experts.bank import ExpertBank, check_experts, read_expert
from ppap.experts.header import purpose_of
from ppap.graph import targets
from ppap.graph.artefacts import TARGET, samples_identity
from ppap.graph.checkpoints import Checkpoint
from ppap.graph.layout import Layout, one_of
from ppap.networks import models, runtime
from ppap.preset import Preset
from ppap.preset.runs import Run
from ppap.sampling.targets import real_pictures
from ppap.storage import files

GuidanceFor = Callable[[Tensor], Guidance]
"""The numbers (B,) of a batch's targets to its guidance."""


@dataclass(frozen=True)
class Drawing:
    """Images to draw in one job: a (seed, index) each, and the numbers (n,) of their targets."""

    name: str
    seeds: list[tuple[int, int]]
    targets: Tensor
    shape: tuple[int, int, int]
    batch_size: int
    checkpoint: Checkpoint
    checkpoint_every: int


def generate(layout: Layout, index: int, checkpoint: Checkpoint) -> None:
    """Draw one shard of clean images, without guidance, and write it."""
    preset = layout.preset
    clean = preset.clean_images
    size = one_of(layout.clean_sizes, index)
    first = index * clean.shard_size
    drawing = Drawing(
        name=f"clean images {index}",
        seeds=[(clean.seed, first + i) for i in range(size)],
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
    preset, sampling = layout.preset, layout.preset.sampling
    size = one_of(layout.sample_sizes, index)
    samples = range(index * sampling.shard_size, index * sampling.shard_size + size)
    numbers = targets.numbers(layout, run.guide)[samples.start : samples.stop]
    path = layout.samples(run, index)
    files.check_writable(path, checkpoint.path)
    if preset.guidance(run.method).drawn:
        images = _drawn(layout, run, index, samples, numbers, checkpoint)
    else:
        images = real_pictures(layout, run, numbers)
    about = samples_identity(run, index, images[0])
    beside = files.tensors_writer({TARGET: numbers}, about)
    files.write_all({layout.targets(run, index): beside, path: files.array_writer(images)})
    checkpoint.drop()


def _drawn(
    layout: Layout,
    run: Run,
    index: int,
    samples: range,
    numbers: Tensor,
    checkpoint: Checkpoint,
) -> NDArray[np.uint8]:
    """The samples of a run with these places among all of them."""
    preset, sampling = layout.preset, layout.preset.sampling
    drawing = Drawing(
        name=f"{run.guide} {run.method} {run.sampler} {index}",
        seeds=[(sampling.seeds[i // sampling.samples], i % sampling.samples) for i in samples],
        targets=numbers,
        shape=preset.dataset.shape,
        batch_size=sampling.batch_size,
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
    guide, scale = guide_at(layout, run), preset.scale(run.sampler, run.guide)
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
    preset = layout.preset
    guide = models.load_guide(layout, run.guide)
    if not preset.guidance(run.method).experts:
        return lambda images, timestep: guide(images)
    experts = [read_expert(path) for path in layout.experts(run.guide, run.method)]
    wanted = purpose_of(preset, run.guide, run.method, layout.model(run.guide))
    check_experts(experts, wanted, preset.ranges(preset.methods[run.method]))
    return ExpertBank(guide, experts)


def draw(
    drawing: Drawing,
    denoiser: Denoiser,
    sampler: Sampler,
    guidance: GuidanceFor,
    device: torch.device,
) -> NDArray[np.uint8]:
    """Draw a shard batch by batch, from its checkpoint if there is one: uint8 (n, H, W, C).

    An image depends on its seed, index and target only. NumericalError if a sample is not finite.
    """
    done, state = _resume(drawing, device)
    steps = len(denoiser.schedule)
    batches = -(-len(drawing.seeds) // drawing.batch_size)
    initial = len(done) * steps + (steps - state.steps_left if state else 0)
    bar = tqdm(
        total=batches * steps, desc=drawing.name, initial=initial, mininterval=2, unit="step"
    )
    for batch in range(len(done), batches):
        chosen = slice(batch * drawing.batch_size, (batch + 1) * drawing.batch_size)
        seeds = drawing.seeds[chosen]
        if state is None:
            state = noise_state(denoiser, seeds, drawing.shape, device)
        guided = guidance(drawing.targets[chosen].to(device))
        states = trajectory(drawing.name, denoiser, sampler, guided, state, seeds)
        for state in states:
            bar.update()
            if state.steps_left and (steps - state.steps_left) % drawing.checkpoint_every == 0:
                _save(drawing, done, state)
        done.append(torch.from_numpy(datasets.to_uint8(state.x)))
        state = None
    bar.close()
    return torch.cat(done).numpy()


def _draw(
    preset: Preset, drawing: Drawing, denoiser: Denoiser, sampler: str, guidance: GuidanceFor
) -> NDArray[np.uint8]:
    with runtime.autocast(preset.runtime):
        device = runtime.device(preset.runtime)
        chosen = preset.sampler(sampler).build(preset.samplers[sampler])
        return draw(drawing, denoiser, chosen, guidance, device)


def _save(drawing: Drawing, done: list[Tensor], state: State) -> None:
    drawing.checkpoint.save({"done": done, "x": state.x, "steps_left": state.steps_left})


def _resume(drawing: Drawing, device: torch.device) -> tuple[list[Tensor], State | None]:
    saved = drawing.checkpoint.load()
    if saved is None:
        return [], None
    return saved["done"], State(saved["steps_left"], saved["x"].to(device))
