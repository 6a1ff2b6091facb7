"""The step `pretrain`: networks that the workflow trains itself, on real images."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn

from ppap.config.preset import Preset
from ppap.config.runs import trained_models
from ppap.data.images import to_tensor
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.schedules import Schedule
from ppap.diffusion.training import scale_and_shift, train_autoencoder, train_diffusion
from ppap.guides.training import holdout_scores, train_guide
from ppap.training.loop import TrainingRun
from ppap.training.settings import Training
from ppap.utils import files
from ppap.utils.device import device_of, place
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import autocast
from ppap.utils.seeds import Stream, mix, name_seed
from ppap.utils.settings import AUTOENCODER, DIFFUSION
from ppap.workflow import networks, stored_images
from ppap.workflow.layout import Layout
from ppap.workflow.reads import SCHEDULE, data_keys, diffusion_keys, latent_keys, network_keys, training_keys
from ppap.workflow.step import Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrain(Step):
    """Train the diffusion model, its autoencoder, an off-the-shelf guide, or a network that judges samples."""

    message = "Training {wildcards.model} on real images"
    priority = 50

    model: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, trained_models(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.model(self.model)]

    def inputs(self, layout: Layout) -> list[Path]:
        return [*layout.dataset, *(layout.autoencoder if self.model == DIFFUSION else [])]

    def keys(self, preset: Preset) -> list[str]:
        training = f"{preset.key(self.model)}.train"
        common = ["seed", *data_keys(preset), *training_keys(training)]
        if self.model == DIFFUSION:
            return [*common, *diffusion_keys(preset), *SCHEDULE, *latent_keys(preset)]
        if self.model == AUTOENCODER:
            return [*common, *latent_keys(preset), "diffusion.autoencoder.kl_weight"]
        return [*common, *network_keys(preset, self.model), f"{training}.shift"]

    def run(self, layout: Layout) -> None:
        """Train the network, and write its weights; ConfigError if the preset trains no such network."""
        preset, seed = layout.preset, name_seed(layout.preset.seed, self.model)
        training = preset.training(self.model)
        if training is None:
            raise ConfigError(f"{preset.name}: no model '{self.model}' to pretrain")
        with self.unfinished(layout) as checkpoint:
            torch.manual_seed(mix(seed, Stream.INITIAL_WEIGHTS))
            train = _TRAINED.get(self.model, _guide)
            with autocast(preset.runtime):
                network, facts = train(layout, training, TrainingRun(self.model, seed, checkpoint))
            about = {"model": self.model, "config": self.fingerprint(preset)}
            files.write_tensors(layout.model(self.model), network.state_dict(), facts | about)


def _diffusion(layout: Layout, training: Training, run: TrainingRun) -> tuple[nn.Module, dict[str, str]]:
    preset, spec = layout.preset, layout.preset.diffusion
    network = place(networks.new_diffusion(layout), preset.runtime)
    schedule = Schedule.create(spec.noise_schedule, spec.timesteps)
    real = stored_images.as_drawn(layout, stored_images.real(layout, "train"))
    images = to_tensor(torch.from_numpy(real)).to(device_of(preset.runtime))
    return network, _texts(train_diffusion(network, images, schedule, training, run))


def _autoencoder(layout: Layout, training: Training, run: TrainingRun) -> tuple[nn.Module, dict[str, str]]:
    preset, spec = layout.preset, layout.preset.diffusion.autoencoder
    assert spec is not None
    network = place(networks.new_autoencoder(layout), preset.runtime)
    pictures = to_tensor(stored_images.real(layout, "train").images).to(device_of(preset.runtime))
    summary = train_autoencoder(network, pictures, spec.kl_weight, training, run)
    held = to_tensor(stored_images.real(layout, "holdout").images[:_MEASURED]).to(pictures)
    scale, shift = scale_and_shift(network, pictures[:_MEASURED])
    autoencoder = Autoencoder(network, scale, shift)
    error = float((autoencoder.decoded(autoencoder.encoded(held)) - held).abs().mean())
    log.info("%s: mean absolute error of held-out pictures %.4f, of [-1, 1]", run.name, error)
    return network, _texts(summary | {"scale": scale, "shift": shift, "holdout": error})


def _guide(layout: Layout, training: Training, run: TrainingRun) -> tuple[nn.Module, dict[str, str]]:
    name = run.name
    guide = networks.new_guide(layout, name)
    networks.place_guide(layout, name, guide.train())
    data = stored_images.real(layout, "train")
    truths = stored_images.told_truth(layout, data, name).to(guide.device)
    summary = train_guide(guide, to_tensor(data.images).to(guide.device), truths, training, run)
    held = stored_images.real(layout, "holdout")
    scores = holdout_scores(guide.eval(), to_tensor(held.images), stored_images.told_truth(layout, held, name))
    said = ", ".join(f"{score} {value:.4f}" for score, value in scores.items())
    log.info("%s: on held-out images %s", name, said)
    return guide.network, _texts(summary) | {"holdout": f"{next(iter(scores.values())):.4f}"}


_TRAINED = {DIFFUSION: _diffusion, AUTOENCODER: _autoencoder}
_MEASURED = 2000
"""Pictures that the scale of latents, and the error of held-out ones, are measured on."""


def _texts(summary: dict[str, float]) -> dict[str, str]:
    return {key: f"{value:.6g}" for key, value in summary.items()}
