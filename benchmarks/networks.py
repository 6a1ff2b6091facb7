"""A preset's networks with random weights, made on the device where they run; weights change no time."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from ppap.config.preset import Preset
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import GuideAt
from ppap.diffusion.noise_ranges import noise_ranges
from ppap.diffusion.schedules import Schedule, ddim_timesteps
from ppap.experts import lora as adapters
from ppap.experts.bank import ExpertBank
from ppap.experts.expert import Expert, ExpertHeader
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.utils.device import device_of, place
from ppap.utils.mixed_precision import hold_precision
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout

STEPS = 25
"""Of DDIM, as in the paper's tables."""

EXPERTS = 5


def ddim_schedule(preset: Preset) -> Schedule:
    """The schedule of DDIM-25."""
    return full_schedule(preset).keeping(ddim_timesteps(preset.diffusion.timesteps, STEPS))


def full_schedule(preset: Preset) -> Schedule:
    """The schedule of training."""
    return Schedule.create(preset.diffusion.noise_schedule, preset.diffusion.timesteps)


def new_diffusion(preset: Preset) -> nn.Module:
    """The diffusion network in float32 on the preset's device, frozen."""
    with torch.device("meta"):
        network = models.new_diffusion(Layout(preset))
    network = network.to_empty(device=device_of(preset.runtime))
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.constant_(parameter, float(name.endswith("weight")))
    return network.eval().requires_grad_(False)


def new_denoiser(preset: Preset, held: bool = True) -> Denoiser:
    """The diffusion model on DDIM-25, as jobs have it; with `held` its weights are in the runtime's precision."""
    network = place(new_diffusion(preset), preset.runtime)
    if held:
        hold_precision(network, preset.runtime)
    return Denoiser(network, ddim_schedule(preset), preset.diffusion.variance)


def new_guide(preset: Preset, name: str) -> Guide:
    """A guide in float32 on the preset's device, frozen."""
    with torch.device(device_of(preset.runtime)):
        guide = models.new_guide(Layout(preset), name)
    return guide.eval().requires_grad_(False)


def guide_at(preset: Preset, name: str, experts: bool) -> GuideAt:
    """A guide as sampling jobs have it, or a bank of five experts."""
    guide, layout = new_guide(preset, name), Layout(preset)
    models.place_guide(layout, name, guide)
    found = new_bank(guide, preset.guides[name].adapter, EXPERTS, preset) if experts else guide
    models.hold_precision(layout, name, guide)
    return found.at


def new_bank(guide: Guide, adapter: AdapterConfig, count: int, preset: Preset) -> ExpertBank:
    """Experts of a guide with random adapters, in memory."""
    ranges = noise_ranges(full_schedule(preset), count, "uniform")
    return ExpertBank(
        guide, [_new_expert(guide, adapter, number, timesteps, preset) for number, timesteps in enumerate(ranges, 1)]
    )


def _new_expert(guide: Guide, adapter: AdapterConfig, number: int, timesteps: range, preset: Preset) -> Expert:
    header = ExpertHeader(
        guide=guide.name, timesteps=preset.diffusion.timesteps,
        noise_schedule=preset.diffusion.noise_schedule, lora_scale=adapter.alpha / adapter.rank,
        range_start=timesteps.start, range_stop=timesteps.stop,
        trainable_parameters=1, guide_parameters=1,
    )  # fmt: skip
    return Expert(Path(f"expert_{number}"), header, _random_delta(guide.network, adapter))


def _random_delta(network: nn.Module, adapter: AdapterConfig) -> dict[str, torch.Tensor]:
    """Return what an expert changes of this network, as if it had been trained."""
    student = copy.deepcopy(network)
    adapters.attach(student, adapter)
    for parameter in student.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.01)
    student.to(next(network.parameters()).device)  # adapters are made on the CPU
    return adapters.delta(student, network.state_dict())
