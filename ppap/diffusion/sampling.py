"""Sampling: the one loop from noise to images, and images of a diffusion model drawn by it, guided or not.

An image depends on its own (seed, index) and targets alone: not on its batch, nor on a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data.images import to_tensor, to_uint8
from ppap.diffusion.batch_sizes import AnySize, BatchSize
from ppap.diffusion.cascade import SecondStage
from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.goals import Goal, guidance_towards
from ppap.diffusion.guidance import GuidanceCall, NoGuidance, NoisyInputGuidance
from ppap.diffusion.guidance_kinds import GUIDANCE
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.samplers import SAMPLERS, Sampler, State, respaced
from ppap.diffusion.schedules import Schedule
from ppap.utils.arguments import checked
from ppap.utils.checkpoint import Checkpoint, Unkept
from ppap.utils.errors import ConfigError, NumericalError
from ppap.utils.progress import Bar
from ppap.utils.seeds import StepNoise, guidance_seeds, initial_noise, upsampling_seeds
from ppap.utils.settings import Count, Seed, Share

log = logging.getLogger(__name__)

Seeds = list[tuple[int, int]]
"""A (seed of the run, index) for each image."""


class SamplingStep(NamedTuple):
    """One step of the reverse process, each tensor (B, C, H, W).

    At `timestep`, whose noise has this `log_snr`, the networks saw `x_t`, and in it the clean image `x0_hat`; the
    `gradient` of guidance, scale included, is None without goals. `x` is what the step made of x_t; after the last
    one, the samples.
    """

    timestep: int
    log_snr: float
    x_t: Tensor
    x0_hat: Tensor
    gradient: Tensor | None
    x: Tensor


@checked
def sample(
    model: DiffusionModel,
    count: Count,
    goals: Goal | Sequence[Goal] = (),
    *,
    guidance: str | Callable[..., Any] = NoisyInputGuidance,
    sampler: str | Callable[..., Any] = "ddim",
    steps: Count = 25,
    eta: Share = 0.0,
    seed: Seed = 0,
    batch_size: AnySize = 64,
    seeds: Seeds | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: Count = 50,
    decode: bool = True,
    diverging: Literal["refuse", "grey"] = "refuse",
    name: str = "samples",
) -> NDArray[Any]:
    """Draw `count` images, uint8 (count, H, W, C), guided to all `goals` at once; without goals, freely.

    With `guidance` "off_the_shelf" or "experts" guides see x_t (paper, equations 5 and 6); experts that were trained on
    the denoised estimate see that, as guides do with "x0_estimate" and "mpgd"; with "x0_gradient" the gradient goes from
    there through the diffusion network too (paper, section 3). The sampler is "ddim", with noise if `eta` > 0, "ddpm",
    or "euler" or "heun", which are for flows. Either may be a class or function of one's own
    (docs/extending.md), with options if it is a functools.partial, or "user:MODULE.NAME", whose module lies in the
    current folder or on sys.path. `batch_size` "auto" finds what fits into a GPU's memory. Networks run where their weights
    are, in the precision of the autocast around the call.

    Image i is drawn from the random numbers of (`seed`, i), or of `seeds[i]`. With a `checkpoint`, the state is saved
    every `checkpoint_every` steps, and taken up again, bit for bit; `name` is what progress and errors call the images.
    ConfigError for a sampler, steps or targets that cannot be; DataError, before anything is drawn, for experts that
    were trained on other noise than that of the steps; NumericalError if a sample is not finite, unless such are `diverging`
    to "grey": a warning counts them, and the others are as they would be without them.

    A latent diffusion model's samples are decoded: guides that look at pictures see what its latents decode to, those
    with a view of latents (`ppap.guides.views`) see these. Without `decode` the result is what the model itself draws,
    float32 (count, c, h, w): `train_experts` learns from these latents.
    """
    drawing = _guided(model, count, goals, guidance, sampler, steps, eta, seed, seeds, name)
    finished = (lambda drawn: _uint8(model.pictures(drawn))) if decode else (lambda drawn: drawn.float().cpu())
    drawing = replace(drawing, finished=finished, finite=diverging == "refuse")
    return drawing.images(batch_size, checkpoint, checkpoint_every)


@checked
def sampling_steps(
    model: DiffusionModel,
    count: Count,
    goals: Goal | Sequence[Goal] = (),
    *,
    guidance: str | Callable[..., Any] = NoisyInputGuidance,
    sampler: str | Callable[..., Any] = "ddim",
    steps: Count = 25,
    eta: Share = 0.0,
    seed: Seed = 0,
    seeds: Seeds | None = None,
    name: str = "samples",
) -> Iterator[SamplingStep]:
    """Yield the steps, from noise to images, by which `sample` draws the same images in one batch."""
    drawing, whole = _guided(model, count, goals, guidance, sampler, steps, eta, seed, seeds, name), slice(None)
    plain, guided = drawing.model(whole)
    seen: list[Any] = []

    def watched(denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        prediction, gradient = guided(denoiser, x, step)
        if not seen:  # a sampler may ask again within a step
            seen[:] = [x, prediction.x0.detach(), gradient]
        return prediction, gradient

    watching = replace(drawing, model=lambda chosen: (plain, watched))
    for state in watching.follow(whole, drawing.begin(whole)):
        schedule, step, (x_t, x0_hat, gradient) = drawing.schedule, state.steps_left, seen.copy()
        seen.clear()
        yield SamplingStep(schedule.timesteps[step], float(schedule.log_snr[step]), x_t, x0_hat, gradient, state.x)


def upsample(
    second: SecondStage,
    images: NDArray[np.uint8],
    seeds: Seeds,
    *,
    sampler: str | Callable[..., Any] = "ddim",
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
    function = SAMPLERS.get(sampler)
    schedule = respaced(second.schedule, function, steps)

    def model(chosen: slice) -> tuple[Denoiser, GuidanceCall]:
        small = to_tensor(torch.from_numpy(images[chosen]).to(second.device))
        return second.on(schedule, small), NoGuidance()

    drawing = _Drawing(
        name, upsampling_seeds(seeds), second.shape, schedule, function, eta, second.device, model, second.temperature
    )
    return drawing.images(batch_size, checkpoint, checkpoint_every)


@torch.no_grad()
def trajectory(
    denoiser: Denoiser,
    sampler: Sampler,
    guidance: GuidanceCall,
    state: State,
    seeds: Seeds,
    eta: float = 0.0,
    name: str = "samples",
    finite: bool = True,
) -> Iterator[State]:
    """Yield the states that follow `state`, the images last; they are the same from whichever state it begins.

    This is the one sampling loop. A sampler's own `eta` comes before the one given. NumericalError, with the `name` of
    what is drawn and the timestep, if a sample is not `finite`, but is to be; ConfigError if the sampler does not go step by
    step.
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
        if finite and not torch.isfinite(reached.x).all():
            t = denoiser.schedule.timesteps[left]
            raise NumericalError(f"{name}: a sample is not finite at timestep {t}")
        yield reached
    if left:
        raise ConfigError(f"{name}: the sampler ends with {left} steps left")


def _guided(
    model: DiffusionModel,
    count: int,
    goals: Goal | Sequence[Goal],
    guidance: str | Callable[..., Any],
    sampler: str | Callable[..., Any],
    steps: int,
    eta: float,
    seed: int,
    seeds: Seeds | None,
    name: str,
) -> _Drawing:
    """Prepare the drawing of `sample` and `sampling_steps`, whose arguments these are."""
    kind, function = GUIDANCE.get(guidance), SAMPLERS.get(sampler)
    denoiser = model.on(respaced(model.schedule, function, steps))
    if seeds is not None and len(seeds) != count:
        raise ConfigError(f"seeds: {len(seeds)} for {count} images")
    if model.labels and len(model.labels) != count:
        raise ConfigError(
            f"prompts: the model has {len(model.labels)} for {count} images; one or {count} were expected"
        )
    aims = [goals] if isinstance(goals, Goal) else goals
    pictured = model.picture_shape if aims else model.shape
    targets = [goal.targets(count, pictured) for goal in aims]
    levels = denoiser.schedule.log_snr[np.isfinite(denoiser.schedule.log_snr)].tolist()
    for goal in aims if kind.guided else ():
        goal.check(levels, model.schedule.betas, model.autoencoder, model.predicts)

    def of_batch(chosen: slice) -> tuple[Denoiser, GuidanceCall]:
        wanted = [each[chosen].to(model.device) for each in targets]
        guiding = guidance_towards(kind, aims, wanted, model.autoencoder)
        if hasattr(guiding, "noise"):
            guiding.noise = StepNoise(guidance_seeds(known[chosen]), model.shape, model.device)
        return model.on(denoiser.schedule, chosen), guiding

    known = [(seed, place) for place in range(count)] if seeds is None else seeds
    return _Drawing(name, known, model.shape, denoiser.schedule, function, eta, model.device, of_batch)


def _uint8(pictures: Tensor) -> Tensor:
    return torch.from_numpy(to_uint8(pictures))


@dataclass(frozen=True)
class _Drawing:
    """Images to draw, one for each of the seeds, in batches; `model` gives the denoiser and the guidance of a batch."""

    name: str
    seeds: Seeds
    shape: tuple[int, int, int]
    schedule: Schedule
    sampler: Sampler
    eta: float
    device: torch.device
    model: Callable[[slice], tuple[Denoiser, GuidanceCall]]
    temperature: float = 1.0
    finished: Callable[[Tensor], Tensor] = _uint8
    finite: bool = True

    def begin(self, chosen: slice) -> State:
        """Return x_T of a batch."""
        noise = initial_noise(self.seeds[chosen], self.shape).to(self.device)
        return State(len(self.schedule), self.temperature * noise)

    def follow(self, chosen: slice, state: State, memory: dict[str, Tensor] | None = None) -> Iterator[State]:
        """Yield the states of a batch after this one; guidance that has a `memory` of former steps keeps it there."""
        denoiser, guidance = self.model(chosen)
        if memory is not None and hasattr(guidance, "memory"):
            guidance.memory = memory
        return trajectory(denoiser, self.sampler, guidance, state, self.seeds[chosen], self.eta, self.name, self.finite)

    def images(self, batch_size: AnySize, checkpoint: Checkpoint | None, checkpoint_every: int) -> NDArray[Any]:
        """Draw all images, finished (N, ...), from a checkpoint if there is one."""
        kept, count, steps = checkpoint or Unkept(), len(self.seeds), len(self.schedule)
        size = BatchSize(batch_size, count, self.device)
        done: list[Tensor] = []
        unfinished: tuple[State, dict[str, Tensor]] | None = None
        if saved := kept.load():
            memory = {name: value.to(self.device) for name, value in saved.get("memory", {}).items()}
            done, unfinished = saved["done"], (State(saved["steps_left"], saved["x"].to(self.device)), memory)
        taken = len(done) * steps + (steps - unfinished[0].steps_left if unfinished else 0)
        bar = Bar(name=self.name, total=steps * -(-count // size.images), initial=taken, unit="step")

        def batch(images: int) -> Tensor:
            nonlocal unfinished
            first = sum(map(len, done))
            at, memory = unfinished or (self.begin(slice(first, min(first + images, count))), {})
            unfinished = None  # it is not tried twice
            end = first + len(at.x)
            bar.total = bar.n + at.steps_left + steps * -(-(count - end) // images)
            for reached in self.follow(slice(first, end), at, memory):
                at = reached
                bar.update()
                if at.steps_left and (steps - at.steps_left) % checkpoint_every == 0:
                    kept.save({"done": done, "x": at.x.cpu(), "steps_left": at.steps_left, "memory": memory})
            return self.finished(self._without_lost(at.x))

        while sum(map(len, done)) < count:
            done.append(size.fitting(batch))
        bar.close()
        return torch.cat(done).numpy()

    def _without_lost(self, drawn: Tensor) -> Tensor:
        """Return what was drawn (B, C, H, W), with 0, which is grey, in place of samples that are not finite."""
        lost = ~drawn.isfinite().flatten(1).all(1)
        if lost.any():
            log.warning("%s: %d of %d samples are not finite, and grey", self.name, int(lost.sum()), len(drawn))
        return drawn.masked_fill(lost[:, None, None, None], 0.0)
