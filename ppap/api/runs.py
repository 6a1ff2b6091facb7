"""Finished runs of the workflow, for use in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ppap import preset as presets
from ppap.data import shards
from ppap.diffusion.model import DiffusionModel
from ppap.errors import ConfigError
from ppap.experts.bank import ExpertBank, bank_of
from ppap.graph.layout import Layout
from ppap.networks import models
from ppap.networks.guide import Guide
from ppap.preset import Preset


@dataclass(frozen=True)
class FinishedRun:
    """The networks, experts and images of a preset; each is read when it is asked for.

    DataError, naming the file, if the workflow has not made it; ConfigError if the preset has none of this name.
    """

    layout: Layout

    @property
    def preset(self) -> Preset:
        """What the run was made by."""
        return self.layout.preset

    def diffusion(self) -> DiffusionModel:
        """The diffusion model, on the preset's device."""
        return models.load_model(self.layout)

    def guide(self, name: str) -> Guide:
        """The off-the-shelf guide of this name."""
        self._known("guides", name)
        return models.load_guide(self.layout, name)

    def experts(self, guide: str, method: str) -> ExpertBank:
        """The experts of a guide and a method."""
        self._known("methods", method)
        if not self.preset.guidance(method).experts:
            raise ConfigError(f"methods.{method}: has no experts")
        return bank_of(self.layout, guide, method, self.guide(guide))

    def clean_images(self) -> NDArray[np.uint8]:
        """What the diffusion model drew without guidance, and experts learn from: uint8 (N, H, W, C)."""
        found = shards.clean_images(self.layout)
        return found.take(torch.arange(len(found)))

    def _known(self, kind: str, name: str) -> None:
        there = getattr(self.preset, kind)
        if name not in there:
            raise ConfigError(
                f"{kind}: preset {self.preset.name} has no '{name}' ({', '.join(there)})"
            )


def open_run(preset: str | Path, results: str | Path = "results") -> FinishedRun:
    """What the workflow made of a preset, by its name (config/NAME.yaml) or its file, in the folder `results`."""
    loaded = presets.load(presets.find(str(preset)))
    return FinishedRun(Layout(loaded, Path(results)))
