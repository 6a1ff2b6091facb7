"""The step `pretrain`: networks that the workflow trains itself, on real images."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from ppap.config.preset import Preset
from ppap.config.runs import trained_models
from ppap.data.images import to_tensor
from ppap.diffusion.schedules import Schedule
from ppap.diffusion.training import train_diffusion
from ppap.guides.training import holdout_scores, train_guide
from ppap.training.loop import TrainingRun
from ppap.training.settings import Training
from ppap.utils import files
from ppap.utils.device import device_of, place
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import autocast
from ppap.utils.seeds import Stream, mix, name_seed
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks, real_images
from ppap.workflow.layout import Layout
from ppap.workflow.reads.experts import training_keys
from ppap.workflow.reads.networks import SCHEDULE, data_keys, diffusion_keys, network_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrain(Step):
    """Train the diffusion model, an off-the-shelf guide, or a network that judges samples."""

    message = "Training {wildcards.model} on real images"
    resources = "pretrain"
    priority = 50

    model: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, trained_models(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.model(self.model)]

    def inputs(self, layout: Layout) -> list[Path]:
        return layout.dataset

    def keys(self, preset: Preset) -> list[str]:
        training = f"{preset.key(self.model)}.train"
        common = ["seed", *data_keys(preset), *training_keys(training)]
        if self.model == DIFFUSION:
            return [*common, *diffusion_keys(preset), *SCHEDULE]
        return [*common, *network_keys(preset, self.model), f"{training}.shift"]

    def cost(self, costs: Costs) -> Cost:
        return costs.pretraining(self.model)

    def run(self, layout: Layout) -> None:
        """Train the network, and write its weights; ConfigError if the preset trains no such network."""
        preset, out = layout.preset, layout.model(self.model)
        training = preset.training(self.model)
        if training is None:
            raise ConfigError(f"{preset.name}: no model '{self.model}' to pretrain")
        checkpoint, seed = self.checkpoint(layout), name_seed(preset.seed, self.model)
        files.check_writable(out, checkpoint.path)
        torch.manual_seed(mix(seed, Stream.INITIAL_WEIGHTS))
        train = _diffusion if self.model == DIFFUSION else _guide
        with autocast(preset.runtime):
            network, facts = train(layout, training, TrainingRun(self.model, seed, checkpoint))
        about = {"model": self.model, "config": self.fingerprint(preset)}
        files.write_tensors(out, network.state_dict(), facts | about)
        checkpoint.drop()


def _diffusion(layout: Layout, training: Training, run: TrainingRun) -> tuple[nn.Module, dict[str, str]]:
    preset, spec = layout.preset, layout.preset.diffusion
    network = place(networks.new_diffusion(layout), preset.runtime)
    schedule = Schedule.create(spec.noise_schedule, spec.timesteps)
    data = real_images.load(layout, "train")
    images = to_tensor(data.images).to(device_of(preset.runtime))
    return network, _texts(train_diffusion(network, images, schedule, training, run))


def _guide(layout: Layout, training: Training, run: TrainingRun) -> tuple[nn.Module, dict[str, str]]:
    preset, name = layout.preset, run.name
    guide = networks.new_guide(layout, name)
    networks.place_guide(layout, name, guide.train())
    data = real_images.load(layout, "train")
    images = to_tensor(data.images).to(guide.device)
    truths = real_images.truth_of(preset, data, name).to(guide.device)
    summary = train_guide(guide, images, truths, training, run)
    held = real_images.load(layout, "holdout")
    seen, true = to_tensor(held.images), real_images.truth_of(preset, held, name)
    scores = holdout_scores(guide.eval(), seen, true)
    said = ", ".join(f"{score} {value:.4f}" for score, value in scores.items())
    log.info("%s: on held-out images %s", name, said)
    return guide.network, _texts(summary) | {"holdout": f"{next(iter(scores.values())):.4f}"}


def _texts(summary: dict[str, float]) -> dict[str, str]:
    return {key: f"{value:.6g}" for key, value in summary.items()}
