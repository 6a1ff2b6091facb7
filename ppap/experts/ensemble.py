"""The training of an expert ensemble from images in memory."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data.loading import ImagesInMemory
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.guidance import Sees
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.noise_ranges import Allocation, TrainedAt, noise_ranges
from ppap.experts import lora
from ppap.experts.bank import ExpertBank, state_hash
from ppap.experts.distillation import train_expert
from ppap.experts.examples import AnsweredImages, LabelledImages
from ppap.experts.expert import Expert, ExpertHeader, schedule_name, sight
from ppap.experts.settings import AdapterConfig, ExpertsConfig
from ppap.experts.teacher import answers_on
from ppap.guides.guide import Guide
from ppap.guides.views import FITTED, DecoderView, ViewName, fitted_view, look_through
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
    images: NDArray[Any],
    *,
    experts: Count = 5,
    sees: Sees = "x_t",
    view: ViewName | Autoencoder = "linear",
    training: Training,
    adapter: AdapterConfig | None = DEFAULT_ADAPTER,
    truths: Tensor | None = None,
    allocation: Allocation = "uniform",
    trained_at: TrainedAt = "range",
    warm_share: float = 0.5,
    mirror: bool = False,
    tau: float = 0.25,
    held_out: int = 256,
    seed: Seed = 0,
) -> ExpertBank:
    """Train a bank of noise-aware experts of a guide, without data: from images that the diffusion model draws.

    The guide's own answers on `images`, uint8 (N, H, W, C), are what each expert learns to give on x_t (paper,
    section 4.2), x_t being noised by the schedule of `model`; or, if it `sees` "x0_hat", on the network's estimate of
    x_0 in that x_t, which costs a call of the network a step. Of a latent model, `images` are latents (N, c, h, w) as
    `sample(..., decode=False)` draws them: the guide answers on what they decode to, and experts look at a `view` of them
    (`ppap.guides.views`), which may be an autoencoder of the user's own, such as a tiny one. The timesteps are divided
    among the experts (section 4.1), each of which may be `trained_at` the "midpoint" of its range alone. `training` is what all of them take together: a share of its steps, `warm_share`, goes to an
    initialisation that they have in common. `adapter` says which few parameters they train; None: all. With `truths`
    (N, ...), which are classes, depth maps or label maps, they learn these instead: the supervised baselines.
    `mirror`: mirror images are as valid. No expert learns from some of the images, `held_out` of them and a tenth at
    most: its loss there, and the guide's own, are in its header, and a warning is logged if it is worse. The guide
    itself stays as it is. Training runs where the guide's weights are, in the precision of the autocast around the
    call. ConfigError for settings that cannot be; NumericalError if a loss is not finite.
    """
    _ = guide.own_task  # or there is nothing to learn
    ranges = noise_ranges(model.schedule, experts, allocation)
    purpose = _purpose(guide, model, adapter, truths is None, sees, view)
    if adapter is not None:  # tried before the guide is asked, which takes minutes
        lora.attach(copy.deepcopy(guide.network), adapter)
    _check_images(images, model, mirror)
    _check_view(view, model)
    if truths is not None and len(truths) != len(images):
        raise ConfigError(f"truths: {len(truths)} for {len(images)} images")
    if model.labels and len(model.labels) != len(images):
        raise ConfigError(f"model: {len(model.labels)} prompts for {len(images)} images")
    settings = ExpertsConfig(tau=tau, held_out=held_out)
    told = torch.tensor(model.labels) if model.labels and sees == "x0_hat" else None
    given: AnsweredImages | LabelledImages
    if truths is None:
        kept, batches = ImagesInMemory(images), torch.arange(len(images)).split(training.batch_size)
        answers = answers_on(guide, kept, batches, mirror=mirror, pictures=model.pictures)
        given = AnsweredImages(kept, answers, mirror, labels=told)
    else:
        given = LabelledImages(images, truths, guide.own_task, mirror, told)
    examples, unseen = given.apart(settings.held_out)
    denoiser = replace(model, labels=()).on(model.schedule) if sees == "x0_hat" else None
    student = copy.deepcopy(guide)
    if isinstance(view, Autoencoder):
        look_through(student, DecoderView(view))
    elif model.autoencoder is not None:
        few = torch.from_numpy(images[:FITTED]).to(model.device)
        look_through(student, fitted_view(view, model.autoencoder, few))
    shared_steps, own_steps = _shares(training.steps, experts, warm_share)

    def trained(name: str, path: Path, timesteps: range, steps: int, first: Expert | None, at: TrainedAt) -> Expert:
        delta, facts = train_expert(
            copy.deepcopy(student),
            examples,
            schedule=model.schedule,
            timesteps=timesteps,
            training=training.model_copy(update={"steps": steps}),
            adapter=adapter,
            settings=settings,
            run=TrainingRun(name, name_seed(seed, name)),
            held_out=unseen,
            initialisation=first,
            denoiser=denoiser,
            trained_at=at,
        )
        return Expert(path, ExpertHeader(**purpose | facts), delta)

    shared = None
    if shared_steps:
        name, everywhere = "shared start", range(model.schedule.train_timesteps)
        shared = trained(name, Path(name), everywhere, shared_steps, None, "range")
    bank = []
    for number, timesteps in enumerate(ranges, 1):
        name, path = f"expert {number} of {experts}", Path(f"expert_{number}.safetensors")
        bank.append(trained(name, path, timesteps, own_steps, shared, trained_at))
    return ExpertBank(student, bank)


def _check_images(images: NDArray[Any], model: DiffusionModel, mirror: bool) -> None:
    if model.autoencoder is None:
        if images.ndim != 4 or not len(images) or images.dtype != np.uint8:
            raise ConfigError(f"images: {shown(images)}; uint8 (N, height, width, channels) was expected")
        return
    if images.shape[1:] != model.shape or not len(images) or not np.issubdtype(images.dtype, np.floating):
        raise ConfigError(f"images: {shown(images)}; latents, floats (N, *{model.shape}), were expected")
    if mirror:
        raise ConfigError("mirror: the mirror image of a latent is none of a picture")


def _check_view(view: ViewName | Autoencoder, model: DiffusionModel) -> None:
    if model.autoencoder is None and view != "linear":
        raise ConfigError("view: is one of latents; the diffusion model draws pixels")
    if isinstance(view, Autoencoder):
        (channels, *_), (wanted, *_) = view.shape_of_pictures(model.shape), model.picture_shape
        if channels != wanted:
            raise ConfigError(f"view: decodes pictures of {channels} channels; {wanted} were expected")


def _shares(steps: int, experts: int, warm_share: float) -> tuple[int, int]:
    """Divide the steps: those of the shared initialisation, and those of each expert."""
    if not 0 <= warm_share < 1:
        raise ConfigError(f"warm_share: {warm_share}; a number from 0, and below 1, was expected")
    warm = round(warm_share * steps) if experts > 1 else 0
    each = (steps - warm) // experts
    if each < 1:
        raise ConfigError(f"training.steps: {steps} are too few for {experts} experts")
    return warm, each


def _purpose(
    guide: Guide,
    model: DiffusionModel,
    adapter: AdapterConfig | None,
    taught: bool,
    sees: Sees,
    view: ViewName | Autoencoder,
) -> dict[str, object]:
    """Return what the experts are made for, as their headers say it."""
    schedule = model.schedule
    return sight(sees, model.predicts, view, model.autoencoder) | {
        "guide": guide.name,
        "guide_state": state_hash(guide),
        "timesteps": schedule.train_timesteps,
        "noise_schedule": schedule_name(schedule.betas),
        "supervision": "teacher" if taught else "labels",
        "trainable": "all" if adapter is None else "adapter",
        "rank": adapter.rank if adapter else None,
        "lora_scale": adapter.alpha / adapter.rank if adapter else 1.0,
    }
