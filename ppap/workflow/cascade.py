"""The stages of the preset's cascade, loaded from where the workflow keeps them."""

from __future__ import annotations

from ppap.diffusion.cascade import FirstStage, SecondStage
from ppap.utils.device import place
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.settings import DIFFUSION
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout


def load_first_stage(layout: Layout, sampler: str) -> FirstStage:
    """The stage that draws images of `dataset.image_size`."""
    preset = layout.preset
    chosen = preset.sampler(sampler).build(preset.samplers[sampler])
    return FirstStage(models.load_denoiser(layout, sampler), chosen, preset.dataset.shape)


def load_second_stage(layout: Layout) -> SecondStage:
    """The stage that upsamples; ConfigError if the diffusion model has none."""
    preset = layout.preset
    spec = preset.diffusion.upsampling
    if spec is None:
        raise ConfigError(
            f"{preset.name}: the diffusion model has no second stage, which upsamples"
        )
    model = preset.diffusion
    network = model.source.load_upsampler(model, layout.model(DIFFUSION))
    hold_precision(network.eval().requires_grad_(False), preset.runtime)
    place(network, preset.runtime)
    return SecondStage(
        upsampling=network.upsampling,
        schedule=spec.schedule(preset.diffusion.timesteps, preset.module_folders),
        variance=preset.diffusion.variance,
        sampler=spec.sampler(preset.module_folders).build(spec),
        shape=(preset.dataset.channels, spec.image_size, spec.image_size),
        temperature=spec.temperature,
    )
