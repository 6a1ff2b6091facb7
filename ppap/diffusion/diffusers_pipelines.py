"""Guidance within pipelines of diffusers: their U-Net and scheduler run the loop, ours adds the gradient."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.guidance import GUIDANCE, Goal, Guidance, NoisyInputGuidance, guidance_towards
from ppap.diffusion.networks.diffusers_scheduler import PREDICTIONS
from ppap.diffusion.networks.diffusers_source import check_parts
from ppap.diffusion.schedules import PredictionName, Schedule, VarianceName
from ppap.utils.arguments import checked, shown
from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)
_SHIFTS: dict[str, Callable[[float, float], float]] = {  # of g, at signal alpha and noise sigma
    "epsilon": lambda alpha, sigma: -sigma,
    "sample": lambda alpha, sigma: sigma**2 / alpha,  # x0 = (x_t - sigma eps) / alpha
    "v_prediction": lambda alpha, sigma: -sigma / alpha,  # v = alpha eps - sigma x0
}
_SCHEDULERS = {  # by class, those that are tested; true if they know what to do with a prediction of x0
    **dict.fromkeys(("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "CogVideoXDDIM", "LCM", "TCD"), True),
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver"), True),
    **dict.fromkeys(("EulerDiscrete", "HeunDiscrete", "LMSDiscrete"), True),
    **dict.fromkeys(("EulerAncestralDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"), False),
    "PNDM": False,
}
_HALF_STEPS: dict[str, Callable[[Any], Any]] = {  # sigma at the second call of a step, which is not that of its end
    "KDPM2Discrete": lambda scheduler: scheduler.sigmas_interpol[scheduler.step_index],
    "KDPM2AncestralDiscrete": lambda scheduler: scheduler.sigmas_interpol[scheduler.step_index - 1],
    "DPMSolverSDE": lambda scheduler: scheduler.mid_point_sigma,
}
_Targets = dict[tuple[int, ...], list[Tensor]]
_LOST = 2.0**-23
"""Up to this signal power x_t is noise alone, as far as float32 can tell; schedulers put 2^-24 in the place of 0."""


@checked
@contextlib.contextmanager
def guided(
    pipeline: DiffusionPipeline,
    goals: Goal | Sequence[Goal],
    *,
    guidance: str | Callable[..., Any] = NoisyInputGuidance,
) -> Iterator[None]:
    """Guide what the pipeline draws within this block to a goal, or to several at once.

    For pipelines of pixels, unconditional or by prompts, whose network predicts eps, x0 or v, and the schedulers DDIM,
    DDPM, DPM-Solver (all kinds), DEIS, UniPC, SA-Solver, PNDM, Euler, Heun, KDPM2, LMS, LCM and TCD. Before each step of
    the scheduler the prediction is guided: eps <- eps - sqrt(1 - abar) g (Dhariwal & Nichol 2021, algorithm 2), where g,
    (B, C, H, W), is the sum of scale * grad_{x_t} log p(target | x_t); x0 and v are changed accordingly. Where x_t is
    noise alone (zero terminal SNR) there is no guidance. A scheduler that clips x0 does so after guidance, and DDIM takes
    eps of the clipped x0. Guides see x_t, so give experts, not off-the-shelf models. Blocks within blocks guide together.

    `guidance` may be of one's own (as in `ppap.sample`), if it asks the denoiser about x_t alone, outside of the gradient,
    and returns what that predicts: the pipeline has called its network already.

    ConfigError, when the block is entered, for another scheduler, a flow, latents, a network that asks for a class, and
    guidance through the denoiser;
    DataError, at the first step, for experts that were trained on other noise than is drawn from.
    """
    chosen = [goals] if isinstance(goals, Goal) else list(goals)
    if not chosen:
        raise ConfigError("goals: one at least is needed")
    how = GUIDANCE.get(guidance)
    if how.through_denoiser or not (how.guided and how.drawn):
        raise ConfigError(
            f"guidance '{how.__name__}': only ppap.sample draws with it; within a pipeline, guides see x_t"
        )
    kind, scheduler = _accepted(pipeline)
    outer = vars(scheduler).get("step")  # of a block around this one
    pulling, targets = [goal for goal in chosen if goal.scale], _Targets()
    if pulling:
        scheduler.step = _guided_step(scheduler, kind, how, pulling, targets)
    try:
        yield
        if pulling and not targets:
            log.warning("%s: nothing called the step of its scheduler, so nothing was guided", type(pipeline).__name__)
    finally:
        vars(scheduler).pop("step", None)
        if outer is not None:
            scheduler.step = outer


def _accepted(pipeline: Any) -> tuple[str, Any]:
    """Return the kind of the pipeline's scheduler, and itself; ConfigError if its samples cannot be guided."""
    name, scheduler = type(pipeline).__name__, getattr(pipeline, "scheduler", None)
    if scheduler is None:
        raise ConfigError(f"pipeline: {shown(pipeline)}; one with a scheduler was expected")
    own = type(scheduler).__name__
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ConfigError(f"{own}: has no alphas_cumprod, by which guidance knows the noise in x_t")
    classes = [each.__name__.removesuffix("Scheduler") for each in type(scheduler).__mro__]
    kind = next((each for each in classes if each in _SCHEDULERS), None)
    if kind is None:
        raise ConfigError(f"{own}: cannot be guided; {', '.join(sorted(_SCHEDULERS))} can")
    if scheduler.config.get("use_flow_sigmas"):
        raise ConfigError(f"{own}: use_flow_sigmas: a flow cannot be guided")
    predicts = scheduler.config.get("prediction_type", "epsilon")
    known = [each for each in _SHIFTS if each != "sample" or _SCHEDULERS[kind]]
    if predicts not in known:
        raise ConfigError(f"{own}: prediction_type: {predicts}; one of {', '.join(known)} was expected")
    check_parts(name, {key: type(part).__name__ for key, part in vars(pipeline).items() if part is not None})
    unet: Any = getattr(pipeline, "unet", None)
    if getattr(unet, "class_embedding", None) is not None and (
        type(unet).__name__ == "UNet2DModel" or unet.config.get("num_class_embeds")
    ):
        raise ConfigError(
            f"{name}: its U-Net asks for a class; only unconditional ones, and ones by prompts, are guided"
        )
    return kind, scheduler


class _Called(Denoiser):
    """The pipeline's network as a denoiser, which it has called already: at x_t, in the only step of this schedule."""

    def __init__(self, x_t: Tensor, output: Tensor, schedule: Schedule, predicts: PredictionName) -> None:
        variance: VarianceName = "learned_range" if output.shape[1] == 2 * x_t.shape[1] else "fixed_small"
        super().__init__(lambda x, t: output, schedule, variance, predicts)
        self.x_t, self.prediction = x_t, super().__call__(x_t, 0)

    def __call__(self, x: Tensor, step: int) -> Prediction:
        if x is not self.x_t:
            raise ConfigError("guidance: asks the denoiser about another image than x_t; only ppap.sample can do that")
        return self.prediction


def _guided_step(
    scheduler: Any, kind: str, guidance: type[Guidance], goals: Sequence[Goal], targets: _Targets
) -> Callable[..., Any]:
    """Return the scheduler's `step` with guidance before it; its signature, which pipelines look at, stays.

    It keeps the `targets` of each goal by the shape of the samples.
    """
    plain, about = scheduler.step, scheduler.config
    signature = inspect.signature(plain)
    clips = about.get("clip_sample") or about.get("thresholding")
    from_clipped = clips and "use_clipped_model_output" in signature.parameters
    predicts = about.get("prediction_type", "epsilon")
    shift = _SHIFTS[predicts]

    @functools.wraps(plain)
    def step(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        output, timestep, sample = (call.arguments[name] for name in ("model_output", "timestep", "sample"))
        if sample.ndim != 4:
            raise ConfigError(f"guided: samples are {tuple(sample.shape)}; images (B, C, H, W) were expected")
        abar, shape = _abar(scheduler, kind, timestep), tuple(sample.shape)
        if not targets:
            for goal in goals:
                goal.check(_log_snrs_ahead(scheduler, timestep), scheduler.betas.cpu().double().numpy())
        if shape not in targets:
            targets[shape] = [goal.targets(shape[0], shape[1:]).to(sample.device) for goal in goals]
        if abar > _LOST:
            x_t = scheduler.scale_model_input(sample, timestep).float()
            t = Schedule((round(float(timestep)),), np.array([1 - abar]), len(scheduler.betas))
            denoiser = _Called(x_t, output, t, PREDICTIONS[predicts])
            prediction, gradient = guidance_towards(guidance, goals, targets[shape])(denoiser, x_t, 0)
            if prediction is not denoiser.prediction:
                raise ConfigError("guidance: changes what the denoiser predicts; only ppap.sample can do that")
            if gradient is not None:
                predicted, variance = output[:, : shape[1]], output[:, shape[1] :]
                predicted = predicted + (shift(abar**0.5, (1 - abar) ** 0.5) * gradient).to(output.dtype)
                call.arguments["model_output"] = torch.cat([predicted, variance], dim=1)
        if from_clipped:  # else eps keeps a gradient that x0 has lost, and samples collapse
            call.arguments["use_clipped_model_output"] = True
        return plain(*call.args, **call.kwargs)

    return step


def _abar(scheduler: Any, kind: str, timestep: Any) -> float:
    """Return the signal power of the x_t that the network saw: by the scheduler's sigma, if it has those."""
    if not hasattr(scheduler, "sigmas"):
        return float(scheduler.alphas_cumprod[int(timestep)])
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)
    half = kind in _HALF_STEPS and not scheduler.state_in_first_order
    return _abar_of(_HALF_STEPS[kind](scheduler) if half else scheduler.sigmas[scheduler.step_index])


def _log_snrs_ahead(scheduler: Any, timestep: Any) -> list[float]:
    """List the noise of this step and of those after it, half steps aside."""
    if hasattr(scheduler, "sigmas"):
        abars = [_abar_of(sigma) for sigma in scheduler.sigmas[scheduler.step_index : -1]]
    else:
        abars = [float(scheduler.alphas_cumprod[int(t)]) for t in scheduler.timesteps if t <= timestep]
    return [_log_snr(abar) for abar in abars if abar > _LOST]


def _abar_of(sigma: Any) -> float:
    return 1 / (1 + float(sigma) ** 2)


def _log_snr(abar: float) -> float:
    return math.log(abar / (1 - abar)) if abar < 1 else math.inf
