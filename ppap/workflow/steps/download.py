"""The step `download`: weights and images of others, taken once, checked, and kept as one file each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import external_models
from ppap.data import realdata
from ppap.data.downloads import Downloads
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE
from ppap.utils.weights import check_weights
from ppap.workflow import networks
from ppap.workflow.layout import Layout
from ppap.workflow.reads import download_keys
from ppap.workflow.step import Step

External = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors, and metadata about them."""


@dataclass(frozen=True)
class Download(Step):
    """Download a network, reference images, or a data set."""

    message = "Downloading {wildcards.model}"
    once = True
    gpu = False
    priority = 50
    local = True  # a cluster's nodes often have no network
    retries = 3

    model: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, external_models(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.model(self.model)]

    def inputs(self, layout: Layout) -> list[Path]:
        return []

    def keys(self, preset: Preset) -> list[str]:
        return download_keys(preset, self.model)

    def run(self, layout: Layout) -> None:
        """Download, check and write; DataError if it cannot be had, or is not what it should be."""
        known = external_models(layout.preset)
        if self.model not in known:
            there = ", ".join(known) or "nothing"
            raise ConfigError(f"{layout.preset.name}: no '{self.model}' to download (there is {there})")
        downloads = Downloads(layout.downloads, layout.preset.folder / "downloads.lock")
        tensors, about = downloaded(layout, downloads, self.model)
        files.write_tensors(layout.model(self.model), tensors, about | {"model": self.model})


def downloaded(layout: Layout, downloads: Downloads, name: str) -> External:
    """Return what the preset takes from elsewhere under this name."""
    preset, spec = layout.preset, layout.preset.networks.get(name)
    if name == DIFFUSION:
        return preset.diffusion.source.download(preset.diffusion, preset.dataset, downloads)
    if name == REFERENCE:
        assert preset.evaluator.compared_with is not None
        return realdata.reference(preset.evaluator.compared_with, preset.dataset, downloads), {}
    if name == DATASET:
        if preset.dataset.name is None:
            return realdata.labelled_folder(preset.dataset)
        return realdata.registered(preset.dataset.name, downloads), {}
    if spec is None:
        assert name == EVALUATOR  # one that is no classifier
        return preset.evaluator.download(downloads)
    if not spec.published:  # the user's own function has returned it
        network = networks.new_network(layout, name)
        check_weights(network, network.state_dict(), f"model '{spec.model}'")
        return network.state_dict(), {}
    return spec.library.download(spec, networks.shape_of(preset, name), preset.key(name), downloads)
