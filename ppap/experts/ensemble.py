"""The training of an expert ensemble from images in memory."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data.loading import ImagesInMemory
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.noise_ranges import Allocation, noise_ranges
from ppap.diffusion.schedules import Schedule
from ppap.experts import lora
from ppap.experts.bank import ExpertBank, state_hash
from ppap.experts.distillation import train_expert
from ppap.experts.examples import AnsweredImages, Examples, HeldOut, LabelledImages
from ppap.experts.expert import Expert, ExpertHeader, schedule_name
from ppap.experts.settings import AdapterConfig, ExpertsConfig
from ppap.experts.teacher import answers_on
from ppap.guides.guide import Guide
from ppap.training.loop import TrainingRun
from ppap.training.settings import Training
from ppap.utils.arguments import checked, shown
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import name_seed
from ppap.utils.settings import Count, Seed

DEFAULT_ADAPTER = AdapterConfig()
"""LoRA on the larger layers but the heads (`fc`, `head`, `classifier`), and all biases; of most networks a tenth or less."""


@checked
def train_experts(
    guide: Guide,
    model: DiffusionModel,
    images: NDArray[np.uint8],
    *,
    experts: Count = 5,
    training: Training,
    adapter: AdapterConfig | None = DEFAULT_ADAPTER,
    truths: Tensor | None = None,
    allocation: Allocation = "uniform",
    warm_share: float = 0.5,
    mirror: bool = False,
    tau: float = 0.25,
    held_out: int = 256,
    seed: Seed = 0,
) -> ExpertBank:
    """Train a bank of noise-aware experts of a guide, without data: from images that the diffusion model draws.

    The guide's own answers on `images`, uint8 (N, H, W, C), are what each expert learns to give on x_t (paper,
    section 4.2), x_t being noised by the schedule of `model`. The timesteps are divided among the experts
    (section 4.1). `training` is what all of them take together: a share of its steps, `warm_share`, goes to an
    initialisation that they have in common. `adapter` says which few parameters they train; None: all. With `truths`
    (N, ...), which are classes, depth maps or label maps, they learn these instead: the supervised baselines.
    `mirror`: mirror images are as valid. No expert learns from some of the images, `held_out` of them and a tenth at
    most: its loss there, and the guide's own, are in its header, and a warning is logged if it is worse. The guide
    itself stays as it is. Training runs where the guide's weights are, in the precision of the autocast around the
    call. ConfigError for settings that cannot be; NumericalError if a loss is not finite.
    """
    ranges = noise_ranges(model.schedule, experts, allocation)
    purpose = _purpose(guide, model.schedule, adapter, truths is None)
    if adapter is not None:  # tried before the guide is asked, which takes minutes
        lora.attach(copy.deepcopy(guide.network), adapter)
    if images.ndim != 4 or not len(images):
        raise ConfigError(f"images: {shown(images)}; uint8 (N, height, width, channels) was expected")
    if truths is not None and len(truths) != len(images):
        raise ConfigError(f"truths: {len(truths)} for {len(images)} images")
    settings = ExpertsConfig(tau=tau, held_out=held_out)
    examples, unseen = _examples(guide, images, truths, training.batch_size, mirror, settings.held_out)
    shared_steps, own_steps = _shares(training.steps, experts, warm_share)

    def trained(name: str, path: Path, timesteps: range, steps: int, first: Expert | None) -> Expert:
        delta, facts = train_expert(
            copy.deepcopy(guide),
            examples,
            schedule=model.schedule,
            timesteps=timesteps,
            training=training.model_copy(update={"steps": steps}),
            adapter=adapter,
            settings=settings,
            run=TrainingRun(name, name_seed(seed, name)),
            held_out=unseen,
            initialisation=first,
        )
        return Expert(path, ExpertHeader(**purpose | facts), delta)

    shared = None
    if shared_steps:
        name, everywhere = "shared start", range(model.schedule.train_timesteps)
        shared = trained(name, Path(name), everywhere, shared_steps, None)
    bank = []
    for number, timesteps in enumerate(ranges, 1):
        name, path = f"expert {number} of {experts}", Path(f"expert_{number}.safetensors")
        bank.append(trained(name, path, timesteps, own_steps, shared))
    return ExpertBank(copy.deepcopy(guide), bank)


def _examples(
    guide: Guide, images: NDArray[np.uint8], truths: Tensor | None, batch_size: int, mirror: bool, held_out: int
) -> tuple[Examples, HeldOut | None]:
    if truths is not None:
        return LabelledImages(images, truths, guide.own_task, mirror).apart(held_out)
    stored = ImagesInMemory(images)
    answers = answers_on(guide, stored, torch.arange(len(stored)).split(batch_size), mirror=mirror)
    return AnsweredImages(stored, answers, mirror).apart(held_out)


def _shares(steps: int, experts: int, warm_share: float) -> tuple[int, int]:
    """Divide the steps: those of the shared initialisation, and those of each expert."""
    if not 0 <= warm_share < 1:
        raise ConfigError(f"warm_share: {warm_share}; a number from 0, and below 1, was expected")
    warm = round(warm_share * steps) if experts > 1 else 0
    each = (steps - warm) // experts
    if each < 1:
        raise ConfigError(f"training.steps: {steps} are too few for {experts} experts")
    return warm, each


def _purpose(guide: Guide, schedule: Schedule, adapter: AdapterConfig | None, taught: bool) -> dict[str, object]:
    """Return what the experts are made for, as their headers say it."""
    return {
        "guide": guide.name,
        "guide_state": state_hash(guide),
        "task": type(guide.own_task).__name__,
        "timesteps": schedule.train_timesteps,
        "noise_schedule": schedule_name(schedule.betas),
        "supervision": "teacher" if taught else "labels",
        "trainable": "all" if adapter is None else "adapter",
        "rank": adapter.rank if adapter else None,
        "lora_scale": adapter.alpha / adapter.rank if adapter else 1.0,
    }
