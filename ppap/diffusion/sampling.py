"""Sampling: the one loop from noise to images, and images of a diffusion model drawn by it, guided or not.

An image depends on its own (seed, index) and targets alone: not on its batch, nor on a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data.images import to_tensor, to_uint8
from ppap.diffusion.batch_sizes import AnySize, BatchSize
from ppap.diffusion.cascade import SecondStage
from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.guidance import (
    GUIDANCE,
    Goal,
    Guidance,
    GuidanceCall,
    NoGuidance,
    NoisyInputGuidance,
    guidance_towards,
)
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.samplers import SAMPLERS, Sampler, State, respaced
from ppap.utils.checkpoint import Checkpoint, Unkept
from ppap.utils.errors import ConfigError, NumericalError
from ppap.utils.progress import Bar
from ppap.utils.seeds import StepNoise, initial_noise, upsampling_seeds

Seeds = list[tuple[int, int]]
"""A (seed of the run, index) for each image."""


class SamplingStep(NamedTuple):
    """One step of the reverse process, each tensor (B, C, H, W).

    At `timestep` the networks saw `x_t`, and in it the clean image `x0_hat`; the `gradient` of guidance, scale
    included, is None without goals. `x` is what the step made of x_t; after the last one, the samples.
    """

    timestep: int
    x_t: Tensor
    x0_hat: Tensor
    gradient: Tensor | None
    x: Tensor


def sample(
    model: DiffusionModel,
    count: int,
    goals: Sequence[Goal] = (),
    *,
    guidance: str | type[Guidance] = NoisyInputGuidance,
    sampler: str | Sampler = "ddim",
    steps: int = 25,
    eta: float = 0.0,
    seed: int = 0,
    batch_size: AnySize = 64,
    seeds: Seeds | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int = 50,
    name: str = "samples",
) -> NDArray[np.uint8]:
    """Draw `count` images, uint8 (count, H, W, C), guided to all `goals` at once; without goals, freely.

    With `guidance` "off_the_shelf" or "experts" guides see x_t (paper, equations 5 and 6); with "x0_gradient" they see
    the one-step estimate of x_0, and the gradient goes through the diffusion network too (paper, section 3). The
    sampler is "ddim", with noise if `eta` > 0, or "ddpm". Either may be a class or function of one's own
    (docs/extending.md). `batch_size` "auto" finds what fits into a GPU's memory. Networks run where their weights
    are, in the precision of the autocast around the call.

    Image i is drawn from the random numbers of (`seed`, i), or of `seeds[i]`. With a `checkpoint`, the state is saved
    every `checkpoint_every` steps, and taken up again, bit for bit; `name` is what progress and errors call the images.
    ConfigError for a sampler, steps or targets that cannot be; NumericalError if a sample is not finite.
    """
    kind, function = GUIDANCE.get(guidance), SAMPLERS.get(sampler)
    seeds = _seeds(seed, count) if seeds is None else seeds
    denoiser = model.on(respaced(model.schedule, function, steps))
    targets = [goal.targets(count, model.shape) for goal in goals]

    def begin(chosen: slice) -> State:
        return noise_state(len(denoiser.schedule), seeds[chosen], model.shape, model.device)

    def follow(chosen: slice, state: State) -> Iterator[State]:
        wanted = [each[chosen].to(model.device) for each in targets]
        guided = guidance_towards(kind, goals, wanted)
        return trajectory(denoiser, function, guided, state, seeds[chosen], eta, name)

    work = _Batches(name, len(seeds), len(denoiser.schedule), checkpoint, checkpoint_every)
    return work.drawn(BatchSize(batch_size, len(seeds), model.device), begin, follow, model.device)


def sampling_steps(
    model: DiffusionModel,
    count: int,
    goals: Sequence[Goal] = (),
    *,
    guidance: str | type[Guidance] = NoisyInputGuidance,
    sampler: str | Sampler = "ddim",
    steps: int = 25,
    eta: float = 0.0,
    seed: int = 0,
    seeds: Seeds | None = None,
    name: str = "samples",
) -> Iterator[SamplingStep]:
    """Yield the steps, from noise to images, by which `sample` draws the same images in one batch."""
    kind, function = GUIDANCE.get(guidance), SAMPLERS.get(sampler)
    seeds = _seeds(seed, count) if seeds is None else seeds
    denoiser = model.on(respaced(model.schedule, function, steps))
    targets = [goal.targets(count, model.shape).to(model.device) for goal in goals]
    guided = guidance_towards(kind, goals, targets)
    seen: list[Any] = []

    def watched(denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        prediction, gradient = guided(denoiser, x, step)
        seen[:] = [x, prediction.x0.detach(), gradient]
        return prediction, gradient

    start = noise_state(len(denoiser.schedule), seeds, model.shape, model.device)
    for state in trajectory(denoiser, function, watched, start, seeds, eta, name):
        x_t, x0_hat, gradient = seen
        timestep = denoiser.schedule.timesteps[state.steps_left]
        yield SamplingStep(timestep, x_t, x0_hat, gradient, state.x)


def upsample(
    second: SecondStage,
    images: NDArray[np.uint8],
    seeds: Seeds,
    *,
    sampler: str | Sampler = "ddim",
    steps: int = 27,
    eta: float = 0.0,
    batch_size: int = 16,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int = 50,
    name: str = "samples, upsampled",
) -> NDArray[np.uint8]:
    """Draw images of a cascade's first stage anew by its second, larger: uint8 (N, h, w, C) to (N, H, W, C).

    `seeds` are those of the first stage; the two share no noise. The other arguments are those of `sample`.
    """
    function, own = SAMPLERS.get(sampler), upsampling_seeds(seeds)
    schedule = respaced(second.schedule, function, steps)

    def begin(chosen: slice) -> State:
        start = noise_state(len(schedule), own[chosen], second.shape, second.device)
        return start._replace(x=second.temperature * start.x)

    def follow(chosen: slice, state: State) -> Iterator[State]:
        small = to_tensor(torch.from_numpy(images[chosen]).to(second.device))
        large = second.on(schedule, small)
        return trajectory(large, function, NoGuidance(), state, own[chosen], eta, name)

    work = _Batches(name, len(seeds), len(schedule), checkpoint, checkpoint_every)
    size = BatchSize(batch_size, len(seeds), second.device)
    return work.drawn(size, begin, follow, second.device)


def noise_state(steps: int, seeds: Seeds, shape: tuple[int, int, int], device: torch.device) -> State:
    """Return x_T of each image, (len(seeds), *shape), with all steps left."""
    return State(steps, initial_noise(seeds, shape).to(device))


@torch.no_grad()
def trajectory(
    denoiser: Denoiser,
    sampler: Sampler,
    guidance: GuidanceCall,
    state: State,
    seeds: Seeds,
    eta: float = 0.0,
    name: str = "samples",
) -> Iterator[State]:
    """Yield the states that follow `state`, the images last; they are the same from whichever state it begins.

    This is the one sampling loop. A sampler's own `eta` comes before the one given. NumericalError, with the `name` of
    what is drawn and the timestep, if a sample is not finite; ConfigError if the sampler does not go step by step.
    """
    noise = StepNoise(seeds, tuple(state.x.shape[1:]), state.x.device)
    eta, left = eta if sampler.eta is None else sampler.eta, state.steps_left
    for reached in sampler(denoiser, guidance, state, noise, eta):
        left -= 1
        if reached.steps_left != left or reached.x.shape != state.x.shape:
            raise ConfigError(
                f"{name}: the sampler yields {tuple(reached.x.shape)} with {reached.steps_left} steps left; "
                f"{tuple(state.x.shape)} with {left} was expected"
            )
        if not torch.isfinite(reached.x).all():
            t = denoiser.schedule.timesteps[left]
            raise NumericalError(f"{name}: a sample is not finite at timestep {t}")
        yield reached
    if left:
        raise ConfigError(f"{name}: the sampler ends with {left} steps left")


@dataclass(frozen=True)
class _Batches:
    """Images to draw batch by batch, each in so many steps, from a checkpoint if there is one."""

    name: str
    count: int
    steps: int
    checkpoint: Checkpoint | None
    checkpoint_every: int

    def drawn(
        self,
        size: BatchSize,
        begin: Callable[[slice], State],
        follow: Callable[[slice, State], Iterator[State]],
        device: torch.device,
    ) -> NDArray[np.uint8]:
        """The images (N, H, W, C): of each batch, `begin` gives x_T and `follow` the states after one."""
        kept = self.checkpoint or Unkept()
        done, state = _resumed(kept.load(), device)
        total = self.steps * -(-self.count // size.images)
        bar = Bar(name=self.name, total=total, initial=self._taken(done, state), unit="step")

        def batch(images: int) -> Tensor:
            nonlocal state
            first = sum(map(len, done))
            at = state or begin(slice(first, min(first + images, self.count)))
            state = None  # it is not tried twice
            end = first + len(at.x)
            bar.total = bar.n + at.steps_left + self.steps * -(-(self.count - end) // images)
            for reached in follow(slice(first, end), at):
                at = reached
                bar.update()
                if at.steps_left and (self.steps - at.steps_left) % self.checkpoint_every == 0:
                    kept.save({"done": done, "x": at.x.cpu(), "steps_left": at.steps_left})
            return at.x

        while sum(map(len, done)) < self.count:
            done.append(torch.from_numpy(to_uint8(size.fitting(batch))))
        bar.close()
        return torch.cat(done).numpy()

    def _taken(self, done: list[Tensor], state: State | None) -> int:
        """The steps that were taken before a restart."""
        return len(done) * self.steps + (self.steps - state.steps_left if state else 0)


def _resumed(saved: dict[str, Any] | None, device: torch.device) -> tuple[list[Tensor], State | None]:
    """The finished batches of a checkpoint, and the state of the one that was being drawn."""
    if saved is None:
        return [], None
    return saved["done"], State(saved["steps_left"], saved["x"].to(device))


def _seeds(seed: int, count: int) -> Seeds:
    if count < 1:
        raise ConfigError(f"{count} images: one at least can be drawn")
    return [(seed, place) for place in range(count)]
