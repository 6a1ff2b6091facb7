"""The step `pretrain`: networks that the workflow trains itself, on real images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.config.runs import trained_models
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DIFFUSION
from ppap.workflow.layout import Layout
from ppap.workflow.reads.experts import training_keys
from ppap.workflow.reads.networks import SCHEDULE, data_keys, diffusion_keys, network_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Pretrain(Step):
    """Of the diffusion model, an off-the-shelf guide, or a judge."""

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
        """ConfigError if the preset trains no such network."""
        from ppap.training.pretrain import pretrain

        if layout.preset.training(self.model) is None:
            raise ConfigError(f"{layout.preset.name}: no model '{self.model}' to pretrain")
        mark = self.fingerprint(layout.preset)
        pretrain(layout, self.model, self.checkpoint(layout), mark)
