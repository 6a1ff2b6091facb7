"""Guidance within pipelines of diffusers: their U-Net and scheduler run the loop, ours adds the gradient."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppap.diffusion.guidance import Goal, combined, gradient_of
from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PREDICTIONS = ("epsilon", "sample", "v_prediction")


@contextlib.contextmanager
def guided(pipeline: DiffusionPipeline, goals: Sequence[Goal]) -> Iterator[None]:
    """Guide what the pipeline draws within this block to all goals at once.

    For pipelines of pixels, unconditional or by prompts, whose U-Net predicts eps, x0 or v, and any scheduler with
    `alphas_cumprod` (DDIM, DDPM, DPM-Solver++, Heun, Euler ...). Before each step of the scheduler the prediction is
    guided: eps <- eps - sqrt(1 - abar) g (Dhariwal & Nichol 2021, algorithm 2), where g, (B, C, H, W), is the sum of
    scale * grad_{x_t} log p(target | x_t); x0 and v are changed accordingly. Guides see x_t, so give experts, not
    off-the-shelf models. A scheduler that clips x0 does so after guidance. ConfigError for another kind of scheduler.
    """
    scheduler: Any = getattr(pipeline, "scheduler", None)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ConfigError(
            f"{type(scheduler).__name__}: has no alphas_cumprod, by which guidance knows the noise in x_t"
        )
    if scheduler.config.get("prediction_type", "epsilon") not in PREDICTIONS:
        raise ConfigError(
            f"{type(scheduler).__name__}: predicts {scheduler.config.prediction_type}; one of "
            f"{', '.join(PREDICTIONS)} was expected"
        )
    if not goals:
        raise ConfigError("guided: needs one goal at least")
    scheduler.step = _guided_step(scheduler, goals)
    try:
        yield
    finally:
        del scheduler.step


def _guided_step(scheduler: Any, goals: Sequence[Goal]) -> Callable[..., Any]:
    """Return the scheduler's `step` with guidance before it; its signature, which pipelines look at, stays."""
    plain = scheduler.step
    targets: dict[int, list[Tensor]] = {}

    @functools.wraps(plain)
    def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        count, shape = len(sample), tuple(sample.shape[1:])
        if count not in targets:
            targets[count] = [goal.targets(count, shape) for goal in goals]  # type: ignore[arg-type]
        x_t = scheduler.scale_model_input(sample, timestep)
        guide, objective, scale = combined(goals, [t.to(sample.device) for t in targets[count]])
        last = len(scheduler.alphas_cumprod) - 1
        nearest = min(max(round(float(timestep)), 0), last)  # a scheduler may put one between two of training
        gradient = scale * gradient_of(guide, objective, x_t.float(), nearest)
        output = _corrected(scheduler, model_output, timestep, gradient)
        return plain(output, timestep, sample, *args, **kwargs)

    return step


def _corrected(scheduler: Any, output: Tensor, timestep: Any, gradient: Tensor) -> Tensor:
    """Return what the network would have predicted of guided samples; a variance that it predicts too stays."""
    channels = gradient.shape[1]
    predicted, rest = output[:, :channels], output[:, channels:]
    abar = _abar(scheduler, timestep)
    shift = {  # of eps, times -1; of x0 = (x_t - sqrt(1 - abar) eps) / sqrt(abar); of v
        "epsilon": -((1 - abar) ** 0.5),
        "sample": (1 - abar) / abar**0.5,
        "v_prediction": -((1 - abar) ** 0.5) / abar**0.5,
    }[scheduler.config.get("prediction_type", "epsilon")]
    guided = predicted + (shift * gradient).to(predicted.dtype)
    return torch.cat([guided, rest], dim=1)


def _abar(scheduler: Any, timestep: Any) -> float:
    """Return the signal power of x_t: by the scheduler's sigma of this step, if it has those, else by the timestep."""
    index = getattr(scheduler, "step_index", None)
    if index is not None and hasattr(scheduler, "sigmas"):
        return 1 / (1 + float(scheduler.sigmas[index]) ** 2)
    known = scheduler.alphas_cumprod.double().numpy()
    sigmas = ((1 - known) / known) ** 0.5
    sigma = np.interp(float(timestep), np.arange(len(known)), sigmas)
    return float(1 / (1 + sigma**2))
