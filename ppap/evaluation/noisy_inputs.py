"""Scores of guides on noisy inputs: how well each answers on held-out images at the noise of a timestep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.config.runs import Run
from ppap.data import datasets
from ppap.diffusion import sampling
from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.guidance import GuideAt
from ppap.evaluation.empirical_posterior import EmpiricalPosterior
from ppap.guides.tasks.task import Task
from ppap.utils.seeds import noise_at
from ppap.workflow import networks as models
from ppap.workflow import targets
from ppap.workflow.goals import guide_of
from ppap.workflow.layout import Layout

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

    def __init__(self, layout: Layout) -> None:
        self.layout, self.preset = layout, layout.preset
        self.device = runtime.device(layout.preset.runtime)

    def of(self, guide: str) -> tuple[Tensor, Tensor]:
        """Clean images (N, C, H, W) in [-1, 1], and truths (N, ...)."""
        if self.layout.knows_truth(guide):
            return self._with_truths(self._real, guide)
        network, task = models.load_guide(self.layout, guide), targets.task_of(self.preset, guide)
        with torch.inference_mode():
            parts = self._drawn.split(self.preset.sampling.judged_at_once)
            said = [task.target_of(network(part).float()) for part in parts]
        return self._drawn, torch.cat(said)

    def posterior(self, guide: str) -> EmpiricalPosterior | None:
        """Of the classes, by the training images; None where truths are no classes, or not known."""
        if self.preset.task(guide).of_pictures or not self.layout.knows_truth(guide):
            return None
        images, classes = self._with_truths(datasets.load(self.layout, "train"), guide)
        return EmpiricalPosterior(images, classes, self.preset.dataset.classes)

    def _with_truths(self, data: datasets.RealImages, guide: str) -> tuple[Tensor, Tensor]:
        truths = data.truth_of(self.preset, guide)
        return datasets.to_tensor(data.images).to(self.device), truths.to(self.device)

    @cached_property
    def _real(self) -> datasets.RealImages:
        return datasets.load(self.layout, "holdout").first(self.preset.figures.images)

    @cached_property
    def _drawn(self) -> Tensor:
        """Images drawn without guidance, from the sampling seeds' noise, rounded as images are."""
        preset, count = self.preset, self.preset.figures.images
        drawn = sampling.sample(
            models.load_model(self.layout, preset.runtime),
            count,
            **preset.drawing(preset.figures.sampler),
            seed=preset.sampling.seeds[0],
            batch_size=preset.sampling.batch_size,
            name="noisy inputs",
        )
        return datasets.to_tensor(drawn).to(self.device)


def scores(held_out: HeldOut, guide: str, runs: Sequence[Run]) -> Iterator[Scored]:
    """The scores of the runs' guides, timestep by timestep, and of the exact posterior where classes are known.

    Of the posterior, those where it is as sure as it is right, within 0.1: where it is not, the training images are
    too few to stand for all others, and its accuracy is no limit.
    """
    layout, preset = held_out.layout, held_out.preset
    task, (images, truths) = targets.task_of(preset, guide), held_out.of(guide)
    guides = {run.method: guide_of(layout, run).at for run in runs}
    posterior, schedule = held_out.posterior(guide), preset.schedule(preset.figures.sampler)
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
