"""The drawing of images batch by batch, from a checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data import datasets
from ppap.diffusion.batch_sizes import Fitting, fastest
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance
from ppap.diffusion.samplers import Sampler, State
from ppap.diffusion.trajectory import Seeds, noise_state, trajectory
from ppap.utils.checkpoint import Checkpoint, Unkept
from ppap.utils.overlap import behind
from ppap.utils.progress import Bar

GuidanceFor = Callable[[Tensor], Guidance]
"""The numbers (B,) of a batch's targets to its guidance."""


@dataclass(frozen=True)
class Drawing:
    """Images to draw: a (seed, index) each, and the numbers (n,) of their targets."""

    name: str
    seeds: Seeds
    targets: Tensor
    shape: tuple[int, int, int]
    batch_size: int | Fitting
    checkpoint: Checkpoint | Unkept
    checkpoint_every: int


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

    def begin(chosen: slice) -> State:
        return noise_state(denoiser, drawing.seeds[chosen], drawing.shape, device)

    def follow(chosen: slice, state: State) -> Iterator[State]:
        guided = guidance(drawing.targets[chosen].to(device))
        return trajectory(drawing.name, denoiser, sampler, guided, state, drawing.seeds[chosen])

    return in_batches(drawing, len(denoiser.schedule), begin, follow, device)


def in_batches(
    drawing: Drawing,
    steps: int,
    begin: Callable[[slice], State],
    follow: Callable[[slice, State], Iterator[State]],
    device: torch.device,
) -> NDArray[np.uint8]:
    """The images of a shard, batch by batch, each of which `begin`s with a state and takes `steps`: uint8 (n, H, W, C).

    From the checkpoint, if there is one; new ones are kept on the way, written while the drawing goes on.
    """

    def step(count: int) -> State:
        chosen = slice(0, count)
        return next(follow(chosen, begin(chosen)))

    done, state = _resume(drawing, device)
    total, first = len(drawing.seeds), sum(map(len, done))
    size = drawing.batch_size
    if isinstance(size, Fitting):
        size = fastest(step, total, size, device)
    begun = len(done) + (state is not None)
    batches = begun + -(-(total - first - (len(state.x) if state else 0)) // size)
    initial = len(done) * steps + (steps - state.steps_left if state else 0)
    bar = Bar(total=batches * steps, name=drawing.name, initial=initial, unit="step")
    with behind() as write:
        while first < total:
            chosen = slice(first, first + (len(state.x) if state else size))
            at = begin(chosen) if state is None else state
            for reached in follow(chosen, at):
                at = reached
                bar.update()
                if at.steps_left and (steps - at.steps_left) % drawing.checkpoint_every == 0:
                    write(partial(drawing.checkpoint.save, _kept(done, at)))
            done.append(torch.from_numpy(datasets.to_uint8(at.x)))
            first, state = first + len(at.x), None
    bar.close()
    return torch.cat(done).numpy()


def _kept(done: list[Tensor], state: State) -> dict[str, Any]:
    """What a checkpoint holds: a copy, since the drawing goes on while it is written."""
    return {"done": [*done], "x": state.x.to("cpu", copy=True), "steps_left": state.steps_left}


def _resume(drawing: Drawing, device: torch.device) -> tuple[list[Tensor], State | None]:
    saved = drawing.checkpoint.load()
    if saved is None:
        return [], None
    return saved["done"], State(saved["steps_left"], saved["x"].to(device))
