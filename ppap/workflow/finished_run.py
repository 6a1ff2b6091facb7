"""A finished run of the workflow, for use in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.config.replicates import replicate
from ppap.config.runs import Run, known, stored_as
from ppap.data.datasets import RealImages, Split
from ppap.diffusion.model import DiffusionModel
from ppap.experts.bank import ExpertBank
from ppap.guides.guide import Guide
from ppap.utils import files
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError
from ppap.workflow import networks as models
from ppap.workflow import stored_images
from ppap.workflow.experts import bank_of
from ppap.workflow.layout import Layout


@checked
@dataclass(frozen=True)
class FinishedRun:
    """The networks, experts and images of a preset; each is read when it is asked for.

    DataError, naming the file, if the workflow has not made it; ConfigError if the preset has none of this name.
    """

    layout: Layout

    @property
    def preset(self) -> Preset:
        """The preset of the run."""
        return self.layout.preset

    def diffusion(self) -> DiffusionModel:
        """Load the diffusion model, on the preset's device."""
        return models.load_model(self.layout)

    def guide(self, name: str) -> Guide:
        """Load the off-the-shelf guide of this name."""
        known(self.preset, "guides", name)
        return models.load_guide(self.layout, name)

    def experts(self, guide: str, method: str) -> ExpertBank:
        """Load the experts of a guide and a method."""
        known(self.preset, "methods", method)
        if not self.preset.guidance(method).experts:
            raise ConfigError(f"methods.{method}: has no experts")
        return bank_of(self.layout, guide, method, self.guide(guide))

    def judge(self, guide: str) -> Guide:
        """Load the independent network that judges samples of this guide: of its task, trained otherwise."""
        known(self.preset, "guides", guide)
        networks = [self.preset.judge(guide), *self.preset.evaluator.networks]
        name = next((name for name in networks if name is not None), None)
        if name is None:
            raise ConfigError(f"evaluator: {self.preset.evaluator.kind} is no network that judges classes")
        return models.load_guide(self.layout, name)

    def samples(self, sampler: str, guide: str, method: str) -> tuple[NDArray[np.uint8], Tensor]:
        """Read all samples of a row, uint8 (N, H, W, C), and the numbers (N,) of their targets, seed after seed."""
        known(self.preset, "samplers", sampler)
        known(self.preset, "methods", method)
        run = stored_as(self.preset, Run(sampler, guide, method))
        drawn, numbers = stored_images.samples(self.layout, run)
        return drawn.take(torch.arange(len(drawn))), numbers

    def table(self, name: str = "main") -> pd.DataFrame:
        """Read a finished table, a row for each run: measured values, and beside them the paper's (`paper_fid`, ...)."""
        known(self.preset, "tables", name)
        path = self.layout.table(name, "csv")
        with files.readable(path):
            return pd.read_csv(path)

    def real_images(self, split: Split = "holdout") -> RealImages:
        """Read real images, uint8 (N, H, W, C), and what is true of them by task: those never trained on, or of "train"."""
        return stored_images.real(self.layout, split)

    def clean_images(self) -> NDArray[Any]:
        """Read what the diffusion model drew without guidance, and experts learn from: uint8 (N, H, W, C), or latents."""
        clean = stored_images.clean(self.layout)
        return clean.take(torch.arange(len(clean)))


@checked
def open_run(preset: str | Path, results: str | Path = "results", number: int | None = None) -> FinishedRun:
    """Open what the workflow made of a preset, by its name (config/NAME.yaml) or its file, in the folder `results`.

    `number` is one of its `replicates`; left out: its own run.
    """
    loaded = presets.load(presets.find(str(preset)))
    return FinishedRun(Layout(loaded if number is None else replicate(loaded, number), Path(results)))
