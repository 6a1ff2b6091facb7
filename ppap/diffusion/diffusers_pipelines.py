"""Guidance within pipelines of diffusers: their network and scheduler run the loop, ours adds the gradient."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import CLIPPED, Clip, Denoiser, Prediction
from ppap.diffusion.goals import Goal, guidance_towards
from ppap.diffusion.guidance import Guidance, NoisyInputGuidance
from ppap.diffusion.guidance_kinds import GUIDANCE
from ppap.diffusion.networks.diffusers_latents import Arrangement, autoencoder_of
from ppap.diffusion.networks.diffusers_noise import SchedulerNoise
from ppap.diffusion.schedules import PredictionName, Schedule, VarianceName
from ppap.utils.arguments import checked, shown
from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)
Share = Annotated[float, Field(ge=0, le=1)]
_STEPLESS = {"StableDiffusionParadigmsPipeline"}


@checked
@contextlib.contextmanager
def guided(
    pipeline: DiffusionPipeline,
    goals: Goal | Sequence[Goal],
    *,
    guidance: str | Callable[..., Any] = NoisyInputGuidance,
    start: Share = 0.0,
    stop: Share = 1.0,
) -> Iterator[None]:
    """Guide what the pipeline draws within this block to a goal, or to several at once.

    For pipelines that draw pictures, unconditional, by prompts or by class, in pixels or in the latents of an
    autoencoder (docs/your-own-model.md lists the classes), whose network predicts eps, x0, v or the velocity of a flow,
    and the schedulers DDIM, DDPM, DPM-Solver (all kinds), DEIS, UniPC, SA-Solver, PNDM, Euler, Heun, KDPM2, LMS, LCM, TCD,
    and for flows Euler, Heun, LCM, and DPM-Solver, DEIS, UniPC and SA-Solver with `use_flow_sigmas`.

    Before each step of the scheduler the prediction, after classifier-free guidance, is guided:
    eps <- eps - sqrt(1 - abar) g (Dhariwal & Nichol 2021, algorithm 2), where g, (B, C, H, W), is the sum of
    scale * grad_{x_t} log p(target | x_t); x0, v and the velocity are changed accordingly. Where x_t is noise alone (zero
    terminal SNR, a flow above sigma 0.992) there is no guidance. A scheduler that clips x0 does so after guidance, and DDIM takes
    eps of the clipped x0. Guides see x_t, or with `guidance` "x0_estimate" and "mpgd" the estimate of x0, and of latents
    what these decode to; experts see what they were trained on. So give experts, not off-the-shelf models. Guidance acts
    from the share `start` of the steps to the share `stop`. Blocks within blocks guide together.

    `guidance` may be of one's own (as in `ppap.sample`), if it asks the denoiser about x_t alone, outside of the gradient,
    and returns what that predicts: the pipeline has called its network already.

    ConfigError, when the block is entered, for another scheduler, inverted sigmas, latents whose autoencoder is not known,
    video, a U-Net that asks for a class, and guidance through the denoiser;
    DataError, at the first step, for experts that were trained on other noise, or on other latents, than is drawn from.
    """
    chosen = [goals] if isinstance(goals, Goal) else list(goals)
    if not chosen:
        raise ConfigError("goals: one at least is needed")
    if start >= stop:
        raise ConfigError(f"start: {start:g}; less than stop, {stop:g}, was expected")
    how = GUIDANCE.get(guidance)
    if how.through_denoiser or not (how.guided and how.drawn and how.stepwise):
        raise ConfigError(
            f"guidance '{how.__name__}': only ppap.sample draws with it; within a pipeline, guides see x_t"
        )
    scheduler, autoencoder = _accepted(pipeline)
    outer = vars(scheduler).get("step")  # of a block around this one
    pulling = [goal for goal in chosen if goal.scale]
    guiding = _Guiding(SchedulerNoise(scheduler), Arrangement(pipeline), autoencoder, how, pulling, (start, stop))
    if pulling:
        scheduler.step = guiding.before(scheduler.step)
    try:
        with guiding.arrangement.watching():
            yield
        if pulling and not guiding.called:
            log.warning("%s: nothing called the step of its scheduler, so nothing was guided", type(pipeline).__name__)
    finally:
        vars(scheduler).pop("step", None)
        if outer is not None:
            scheduler.step = outer


def _accepted(pipeline: Any) -> tuple[Any, Autoencoder | None]:
    """Return the scheduler and the autoencoder of a pipeline; ConfigError if its samples cannot be guided."""
    name, scheduler = type(pipeline).__name__, getattr(pipeline, "scheduler", None)
    if scheduler is None:
        raise ConfigError(f"pipeline: {shown(pipeline)}; one with a scheduler was expected")
    if name in _STEPLESS:
        raise ConfigError(f"{name}: does not call the step of its scheduler, where guidance is added")
    unet: Any = getattr(pipeline, "unet", None)
    if getattr(unet, "class_embedding", None) is not None and (
        type(unet).__name__ == "UNet2DModel" or unet.config.get("num_class_embeds")
    ):
        raise ConfigError(
            f"{name}: its U-Net asks for a class; only unconditional ones, and ones by prompts, are guided"
        )
    return scheduler, autoencoder_of(pipeline)


class _Called(Denoiser):
    """The pipeline's network as a denoiser, which it has called already: at x_t, in the only step of this schedule."""

    def __init__(
        self, x_t: Tensor, output: Tensor, schedule: Schedule, predicts: PredictionName, clip: Clip = CLIPPED
    ) -> None:
        variance: VarianceName = "learned_range" if output.shape[1] == 2 * x_t.shape[1] else "fixed_small"
        super().__init__(lambda x, t: output, schedule, variance, predicts, clip)
        self.x_t, self.prediction = x_t, super().__call__(x_t, 0)

    def __call__(self, x: Tensor, step: int) -> Prediction:
        if x is not self.x_t:
            raise ConfigError("guidance: asks the denoiser about another image than x_t; only ppap.sample can do that")
        return self.prediction


@dataclass
class _Guiding:
    """Guidance of what a scheduler steps from."""

    noise: SchedulerNoise
    arrangement: Arrangement
    autoencoder: Autoencoder | None
    guidance: type[Guidance]
    goals: Sequence[Goal]
    shares: tuple[float, float]
    called: bool = False
    targets: dict[torch.Size, list[Tensor]] = field(default_factory=dict)  # of each goal, by the shape of the images

    def before(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Return a scheduler's `step` with guidance before it; its signature, which pipelines look at, stays."""
        about, signature = self.noise.scheduler.config, inspect.signature(plain)
        clips = about.get("clip_sample") or about.get("thresholding")
        from_clipped = clips and "use_clipped_model_output" in signature.parameters

        @functools.wraps(plain)
        def step(*args: Any, **kwargs: Any) -> Any:
            call = signature.bind(*args, **kwargs)
            output, timestep, sample = (call.arguments[name] for name in ("model_output", "timestep", "sample"))
            if call.arguments.get("per_token_timesteps") is not None:
                raise ConfigError("guided: per_token_timesteps: parts of a picture with noise of their own")
            call.arguments["model_output"] = self._guided(output, timestep, sample)
            if from_clipped:  # else eps keeps a gradient that x0 has lost, and samples collapse
                call.arguments["use_clipped_model_output"] = True
            return plain(*call.args, **call.kwargs)

        return step

    def _guided(self, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
        """Return the prediction of the network with the gradient added."""
        look = self.arrangement.of(sample)
        if not self.called:
            self._check(timestep)
        self.called = True
        seen, abar = self.noise.seen(sample, timestep)
        if self.noise.lost(abar) or not self._acts(self.noise.index(timestep)):
            return output
        x_t, laid_out = torch.func.vjp(look, seen.float())[:2]
        train_timesteps = self.noise.scheduler.config.num_train_timesteps
        schedule = Schedule((round(float(timestep)),), np.array([1 - abar]), train_timesteps)
        clip = CLIPPED if self.autoencoder is None else Clip(None)
        denoiser = _Called(x_t, look(output), schedule, self.noise.predicts, clip)
        guidance = guidance_towards(self.guidance, self.goals, self._targets_of(x_t), self.autoencoder)
        prediction, gradient = guidance(denoiser, x_t, 0)
        if prediction is not denoiser.prediction:
            raise ConfigError("guidance: changes what the denoiser predicts; only ppap.sample can do that")
        if gradient is None:
            return output
        change = self.noise.shift(abar) * laid_out(gradient)[0]
        predicted, variance = output[:, : sample.shape[1]], output[:, sample.shape[1] :]
        return torch.cat([predicted + change.to(output.dtype), variance], dim=1)

    def _acts(self, index: int) -> bool:
        return self.shares[0] <= self.noise.share(index) < self.shares[1]

    def _check(self, timestep: Any) -> None:
        """Raise DataError if experts know nothing of the steps that are to come."""
        ahead = [
            math.log(abar / (1 - abar)) if abar < 1 else math.inf
            for index, abar in self.noise.ahead(timestep)
            if self._acts(index) and not self.noise.lost(abar)
        ]
        for goal in self.goals:
            goal.check(ahead, self.noise.betas, self.autoencoder, self.noise.predicts)

    def _targets_of(self, images: Tensor) -> list[Tensor]:
        count, *sides = shape = images.shape
        if shape not in self.targets:
            picture = (sides[0], sides[1], sides[2])
            if self.autoencoder is not None:
                picture = self.autoencoder.to(images.device).shape_of_pictures(picture)
            self.targets[shape] = [goal.targets(count, picture).to(images.device) for goal in self.goals]
        return self.targets[shape]
