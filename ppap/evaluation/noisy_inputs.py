"""Scores of guides on noisy inputs: how well each answers on held-out images at the noise of a timestep, and how sure it is.

Beside them stands the exact posterior of the class, where clean images are spread as the training images are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.guidance import GuideAt
from ppap.diffusion.schedules import Schedule
from ppap.guides.tasks.task import Task
from ppap.utils.seeds import noise_at

TIMESTEPS = 25  # at most, of those that the sampler keeps
_CALIBRATED = 0.1
_CHUNK = 1 << 22  # distances at a time


class Scored(NamedTuple):
    """A number of a guide at a timestep, not multiplied by its score's factor; of the posterior the method is None."""

    method: str | None
    timestep: int
    score: float


class EmpiricalPosterior:
    """p(y | x_t) by Bayes' rule, with the training images as prior: each of the N equally likely to be x_0.

    p(y | x_t) is proportional to the sum, over the training images x_0 of class y, of
    N(x_t; sqrt(abar) x_0, (1 - abar) I). No classifier of x_t is right more often on images drawn from that prior.
    On other images it is what the training images alone tell: much noise hides what they leave out, so that their
    spread is as good as the true one and the posterior's accuracy is the limit; at little noise it is their nearest
    neighbour, which a network that generalises may beat.
    """

    def __init__(self, images: Tensor, classes: Tensor, count: int) -> None:
        """Take training images (N, C, H, W) in [-1, 1], and their classes (N,), whole numbers below `count`."""
        self._images = images.flatten(1).float()
        self._squared = self._images.double().square().sum(1)
        self._members = [(classes == y).nonzero().flatten() for y in range(count)]

    def __call__(self, x: Tensor, abar: float) -> Tensor:
        """Return log p(y | x_t) of x_t (B, C, H, W): (B, classes), in float64; abar is alphas_cumprod at t."""
        size = max(1, _CHUNK // len(self._images))
        with torch.autocast(x.device.type, enabled=False):
            parts = [self._classes(part, abar) for part in x.flatten(1).float().split(size)]
        return torch.cat(parts)

    def _classes(self, x: Tensor, abar: float) -> Tensor:
        # |x|^2, which is the same for all x_0, is left out
        distances = abar * self._squared - 2 * abar**0.5 * (x @ self._images.T).double()
        weights = torch.log_softmax(-distances / (2 * (1 - abar)), dim=1)  # of each x_0: (B, N)
        return torch.stack([weights[:, mine].logsumexp(1) for mine in self._members], dim=1)


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
    for t, abar, log_snr, x in _noisy(images, schedule):
        for method, guide in guides.items():
            statistics = _statistics(guide, task, x, truths, log_snr, batch_size)
            yield Scored(method, t, task.scored(statistics)[task.scores[0].name])
        if posterior is not None:
            sure, seen = posterior(x, abar).exp().max(dim=1)
            right = float((seen == truths).double().mean())
            if abs(float(sure.mean()) - right) <= _CALIBRATED:
                yield Scored(None, t, right)


@torch.inference_mode()
def calibration(
    images: Tensor, classes: Tensor, guides: Mapping[str, GuideAt], schedule: Schedule, batch_size: int
) -> Iterator[Scored]:
    """Yield the calibration error of classifiers, given by method, on images likewise, whose `classes` (N,) are known."""
    for t, _, log_snr, x in _noisy(images, schedule):
        for method, guide in guides.items():
            logits = torch.cat([guide(part, log_snr).float() for part in x.split(batch_size)])
            yield Scored(method, t, calibration_error(logits, classes))


def calibration_error(logits: Tensor, classes: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error of logits (N, K), in [0, 1]: Guo et al. 2017, arXiv 1706.04599, equation 3.

    Images are put into bins by the probability of the likeliest class; a bin's gap is that between the mean of these and
    the share that is right, and the error is the mean gap over images.
    """
    sure, seen = logits.double().softmax(1).max(1)
    places = (sure * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64, device=logits.device)
    return float(gaps.index_add(0, places, sure - (seen == classes).double()).abs().sum() / len(classes))


def _noisy(images: Tensor, schedule: Schedule) -> Iterator[tuple[int, float, float, Tensor]]:
    """Yield timesteps of a schedule, evenly spread, with abar, log-SNR, and the images with that noise."""
    for step in _evenly(len(schedule), TIMESTEPS):
        t, abar, log_snr = schedule.timesteps[step], float(schedule.alphas_cumprod[step]), float(schedule.log_snr[step])
        eps = noise_at(t, range(len(images)), tuple(images.shape[1:])).to(images.device)
        yield t, abar, log_snr, add_noise(images, eps, images.new_tensor([abar]))


@torch.inference_mode()
def _statistics(
    guide: GuideAt, task: Task, x: Tensor, truths: Tensor, log_snr: float, batch_size: int
) -> dict[str, Tensor]:
    """Compare a guide's answers on x_t (N, C, H, W) with what is true."""
    parts = [
        task.statistics(guide(images, log_snr).float(), wanted)
        for images, wanted in zip(x.split(batch_size), truths.split(batch_size), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _evenly(total: int, most: int) -> list[int]:
    """Choose at most `most` of the numbers below `total`, evenly spread."""
    count = min(most, total)
    return [round(i * (total - 1) / max(1, count - 1)) for i in range(count)]
