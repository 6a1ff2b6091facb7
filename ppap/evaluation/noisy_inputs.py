"""Scores of guides on noisy inputs: how well each answers on held-out images at the noise of a timestep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.guidance import GuideAt
from ppap.diffusion.schedules import Schedule
from ppap.evaluation.empirical_posterior import EmpiricalPosterior
from ppap.guides.tasks.task import Task
from ppap.utils.seeds import noise_at

TIMESTEPS = 25  # at most, of those that the sampler keeps
_CALIBRATED = 0.1


class Scored(NamedTuple):
    """A guide's first score at a timestep, not multiplied by its factor; of the posterior the method is None."""

    method: str | None
    timestep: int
    score: float


def scores(
    images: Tensor,
    truths: Tensor,
    guides: Mapping[str, GuideAt],
    task: Task,
    schedule: Schedule,
    batch_size: int,
    posterior: EmpiricalPosterior | None = None,
) -> Iterator[Scored]:
    """Score guides, given by method, on clean images (N, C, H, W) in [-1, 1] with noise, timestep by timestep.

    `truths` (N, ...) are what the task asks for. The exact posterior of classes, if given, is scored where it is as
    sure as it is right, within 0.1: where it is not, the training images are too few to stand for all others, and
    its accuracy is no limit.
    """
    for step in _evenly(len(schedule), TIMESTEPS):
        t, abar = schedule.timesteps[step], float(schedule.alphas_cumprod[step])
        eps = noise_at(t, range(len(images)), tuple(images.shape[1:])).to(images.device)
        x = add_noise(images, eps, images.new_tensor([abar]))
        for method, guide in guides.items():
            statistics = _statistics(guide, task, x, truths, t, batch_size)
            yield Scored(method, t, task.scored(statistics)[task.scores[0].name])
        if posterior is not None:
            sure, seen = posterior(x, abar).exp().max(dim=1)
            right = float((seen == truths).double().mean())
            if abs(float(sure.mean()) - right) <= _CALIBRATED:
                yield Scored(None, t, right)


@torch.inference_mode()
def _statistics(
    guide: GuideAt, task: Task, x: Tensor, truths: Tensor, timestep: int, batch_size: int
) -> dict[str, Tensor]:
    """Compare a guide's answers on x_t (N, C, H, W) with what is true."""
    parts = [
        task.statistics(guide(images, timestep).float(), wanted)
        for images, wanted in zip(x.split(batch_size), truths.split(batch_size), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _evenly(total: int, most: int) -> list[int]:
    """Choose at most `most` of the numbers below `total`, evenly spread."""
    count = min(most, total)
    return [round(i * (total - 1) / max(1, count - 1)) for i in range(count)]
