"""The preset's networks, built from the config and loaded from where the workflow keeps them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ppap import files, runtime, tensor_spec
from ppap.artefacts import FLOATS
from ppap.config import DIFFUSION, Config
from ppap.denoiser import Denoiser
from ppap.diffusion_models.adm import ADM
from ppap.errors import ConfigError
from ppap.guides import Guide, build_network
from ppap.guides.library import input_of
from ppap.runs import Layout
from ppap.schedules import Schedule
from ppap.tensor_spec import Spec, of_network


def new_diffusion(config: Config) -> nn.Module:
    """The ADM U-Net with untrained weights."""
    assert config.diffusion.architecture is not None
    return ADM(config.diffusion.architecture)


def as_guide(config: Config, name: str, network: nn.Module) -> Guide:
    """A classifier of the preset behind its resizing and normalisation."""
    spec = config.network(name)
    assert spec is not None
    return Guide(network, *input_of(spec), spec.model, config.dataset.classes)


def new_guide(config: Config, name: str) -> Guide:
    """A guide, or the evaluator, with untrained weights."""
    spec = config.network(name)
    if spec is None:
        raise ConfigError(f"{config.preset}: no model '{name}'")
    data = config.dataset
    network = build_network(
        spec.model, spec.options, data.channels, data.classes, config.module_folders
    )
    return as_guide(config, name, network)


def load_diffusion(config: Config, layout: Layout) -> nn.Module:
    """The pretrained diffusion network, in float32, called as network(x_t, t)."""
    path = layout.model(DIFFUSION)
    if config.diffusion.pipeline:
        from ppap.diffusion_models.diffusers_models import build

        unet = build(files.read_metadata(path), path)
        unet.load_state_dict(_read_weights(path, DIFFUSION, of_network(unet, FLOATS)))
        return unet
    with torch.device("meta"):  # no time for initial weights that nobody needs
        network = new_diffusion(config)
    # a published checkpoint keeps its own precision
    spec = of_network(network, FLOATS if config.diffusion.weights else ())
    tensors = _read_weights(path, DIFFUSION, spec)
    copies = {name: value.to(torch.float32, copy=True) for name, value in tensors.items()}
    network.load_state_dict(copies, assign=True)
    return network


def load_denoiser(config: Config, layout: Layout, sampler: str) -> Denoiser:
    """The pretrained diffusion model on a sampler's schedule, on the preset's device, frozen."""
    network = load_diffusion(config, layout)
    network = runtime.place(network.eval().requires_grad_(False), config.runtime)
    chosen = config.samplers[sampler]
    schedule = Schedule.respaced(
        config.diffusion.noise_schedule, config.diffusion.timesteps, chosen.kind, chosen.steps
    )
    return Denoiser(network, schedule, config.diffusion.variance)


def load_guide(config: Config, layout: Layout, name: str) -> Guide:
    """An off-the-shelf guide, or the evaluator, on the preset's device, frozen, in eval mode."""
    guide = new_guide(config, name)
    spec = of_network(guide.network)
    guide.network.load_state_dict(_read_weights(layout.model(name), name, spec))
    place_guide(config, name, guide.eval().requires_grad_(False))
    return guide


def _read_weights(path: Path, name: str, spec: Spec) -> dict[str, Tensor]:
    """The weights of a model of this name."""
    return tensor_spec.read(path, spec, {"model": name})


def place_guide(config: Config, name: str, guide: Guide) -> None:
    """Move a guide, or the evaluator, in place to the preset's device and its own memory layout."""
    spec = config.network(name)
    runtime.place(guide, config.runtime, spec is not None and spec.channels_last)
