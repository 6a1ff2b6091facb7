"""The preset's networks, built from the config and loaded from where the workflow keeps them."""

from __future__ import annotations

from torch import nn

from ppap import files, runtime
from ppap.config import Config
from ppap.denoiser import Denoiser
from ppap.diffusion_models.adm import ADM
from ppap.guides import Guide, build_network
from ppap.runs import Layout
from ppap.schedules import Schedule

DIFFUSION = "diffusion"
EVALUATOR = "evaluator"


def new_diffusion(config: Config) -> nn.Module:
    """The diffusion network with untrained weights."""
    return ADM(config.diffusion.architecture)


def new_guide(config: Config, name: str) -> Guide:
    """A guide, or the evaluator, with untrained weights."""
    spec = config.evaluator if name == EVALUATOR else config.guides[name]
    network = build_network(
        spec.model, spec.options, config.dataset.channels, config.dataset.classes
    )
    return Guide(network, spec.input_size, spec.mean, spec.std)


def load_denoiser(config: Config, layout: Layout, sampler: str) -> Denoiser:
    """The trained diffusion model on a sampler's schedule, on the preset's device, frozen."""
    network = new_diffusion(config)
    path = layout.model(DIFFUSION)
    runtime.load_weights(network, files.read_tensors(path), path)
    network = runtime.place(network.eval().requires_grad_(False), config.runtime)
    chosen = config.samplers[sampler]
    schedule = Schedule.respaced(
        config.diffusion.noise_schedule, config.diffusion.timesteps, chosen.kind, chosen.steps
    )
    return Denoiser(network, schedule, config.diffusion.variance)


def load_guide(config: Config, layout: Layout, name: str) -> Guide:
    """An off-the-shelf guide, or the evaluator, on the preset's device, frozen, in eval mode."""
    guide = new_guide(config, name)
    path = layout.model(name)
    runtime.load_weights(guide.network, files.read_tensors(path), path)
    runtime.place(guide.eval().requires_grad_(False), config.runtime)
    return guide
