"""Files of others in the workflow's form: one safetensors file for each thing that a preset takes from elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ppap.config.runs import external_models
from ppap.data import realdata
from ppap.data.downloads import Downloads
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE
from ppap.utils.weights import check_weights
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout


class External(NamedTuple):
    """Tensors, and what is known about them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def download(layout: Layout, downloads: Downloads, name: str) -> None:
    """Download a network or data that the preset does not make itself, check it, and write it.

    ConfigError if there is no such thing; DataError if it cannot be had, or is not what it should be.
    """
    preset = layout.preset
    known = external_models(preset)
    if name not in known:
        there = ", ".join(known) or "nothing"
        raise ConfigError(f"{preset.name}: no '{name}' to download (there is {there})")
    if name == DIFFUSION:
        spec = preset.diffusion
        external = External(*spec.source.download(spec, preset.dataset, downloads))
    elif name == REFERENCE:
        source = preset.evaluator.compared_with
        assert source is not None
        external = External(realdata.reference(source, preset.dataset, downloads), {})
    elif name == DATASET:
        assert preset.dataset.name is not None
        external = External(realdata.registered(preset.dataset.name, downloads), {})
    elif name == EVALUATOR and preset.network(name) is None:
        external = External(*preset.evaluator.download(downloads))
    else:
        external = _classifier(layout, downloads, name)
    about = external.metadata | {"model": name}
    files.write_tensors(layout.model(name), external.tensors, about)


def _classifier(layout: Layout, downloads: Downloads, name: str) -> External:
    """A guide's network with its library's weights, or as the user's own function returns it."""
    preset = layout.preset
    spec = preset.network(name)
    assert spec is not None
    if not spec.published:
        network = models.new_network(layout, name)
        check_weights(network, network.state_dict(), f"model '{spec.model}'")
        return External(network.state_dict(), {})
    shape = models.shape_of(preset, name)
    return External(*spec.library.download(spec, shape, preset.key(name), downloads))
