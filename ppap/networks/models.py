"""The preset's networks, built from the config and loaded from where the workflow keeps them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ppap.diffusion.denoiser import Denoiser
from ppap.errors import ConfigError
from ppap.graph.artefacts import FLOATS
from ppap.graph.layout import Layout
from ppap.networks import runtime
from ppap.networks.adm import ADM
from ppap.networks.guide import Guide, build_network
from ppap.networks.library import input_of
from ppap.preset import DIFFUSION, Preset
from ppap.storage import files, tensor_spec
from ppap.storage.tensor_spec import Spec, of_network


def new_diffusion(preset: Preset) -> nn.Module:
    """The ADM U-Net with untrained weights."""
    assert preset.diffusion.architecture is not None
    return ADM(preset.diffusion.architecture)


def as_guide(preset: Preset, name: str, network: nn.Module) -> Guide:
    """A classifier of the preset behind its resizing and normalisation."""
    spec = preset.network(name)
    assert spec is not None
    return Guide(network, *input_of(spec), spec.model, preset.dataset.classes)


def new_guide(preset: Preset, name: str) -> Guide:
    """A guide, or the evaluator, with untrained weights."""
    spec = preset.network(name)
    if spec is None:
        raise ConfigError(f"{preset.name}: no model '{name}'")
    data = preset.dataset
    network = build_network(
        spec.model, spec.options, data.channels, data.classes, preset.module_folders
    )
    return as_guide(preset, name, network)


def load_diffusion(layout: Layout) -> nn.Module:
    """The pretrained diffusion network, in float32, called as network(x_t, t)."""
    preset = layout.preset
    path = layout.model(DIFFUSION)
    if preset.diffusion.pipeline:
        from ppap.networks.diffusers_models import build

        unet = build(files.read_metadata(path), path)
        unet.load_state_dict(_read_weights(path, DIFFUSION, of_network(unet, FLOATS)))
        return unet
    with torch.device("meta"):  # no time for initial weights that nobody needs
        network = new_diffusion(preset)
    # a published checkpoint keeps its own precision
    spec = of_network(network, FLOATS if preset.diffusion.weights else ())
    tensors = _read_weights(path, DIFFUSION, spec)
    copies = {name: value.to(torch.float32, copy=True) for name, value in tensors.items()}
    network.load_state_dict(copies, assign=True)
    return network


def load_denoiser(layout: Layout, sampler: str) -> Denoiser:
    """The pretrained diffusion model on a sampler's schedule, on the preset's device, frozen."""
    preset = layout.preset
    network = load_diffusion(layout)
    network = runtime.place(network.eval().requires_grad_(False), preset.runtime)
    return Denoiser(network, preset.schedule(sampler), preset.diffusion.variance)


def load_guide(layout: Layout, name: str) -> Guide:
    """An off-the-shelf guide, or the evaluator, on the preset's device, frozen, in eval mode."""
    preset = layout.preset
    guide = new_guide(preset, name)
    spec = of_network(guide.network)
    guide.network.load_state_dict(_read_weights(layout.model(name), name, spec))
    place_guide(preset, name, guide.eval().requires_grad_(False))
    return guide


def _read_weights(path: Path, name: str, spec: Spec) -> dict[str, Tensor]:
    """The weights of a model of this name."""
    return tensor_spec.read(path, spec, {"model": name})


def place_guide(preset: Preset, name: str, guide: Guide) -> None:
    """Move a guide, or the evaluator, in place to the preset's device and its own memory layout."""
    spec = preset.network(name)
    runtime.place(guide, preset.runtime, spec is not None and spec.channels_last)
