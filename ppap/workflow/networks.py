"""The preset's networks, untrained, and loaded from where the workflow keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ppap.config.preset import Preset
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.cascade import SecondStage
from ppap.diffusion.denoiser import Process
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.networks.sources import FLOAT32
from ppap.diffusion.samplers import respaced
from ppap.diffusion.schedules import Schedule
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import files, mixed_precision, tensor_spec
from ppap.utils.device import Runtime, device_of, place
from ppap.utils.errors import ConfigError
from ppap.utils.settings import AUTOENCODER, DIFFUSION
from ppap.workflow.layout import Layout

# -- the diffusion model ---------------------------------------------------------------------------


def new_diffusion(layout: Layout) -> nn.Module:
    """Build the diffusion network with untrained weights, called as network(x_t, t).

    DataError if only the workflow's file says what it is, and the file is not there.
    """
    spec = layout.preset.diffusion
    return spec.source.build(spec, layout.model(DIFFUSION))


def load_diffusion(layout: Layout, how: Runtime = FLOAT32) -> nn.Module:
    """Load the diffusion network, called as network(x_t, t); its layers hold their weights as `how` says."""
    spec = layout.preset.diffusion
    return spec.source.load(spec, layout.model(DIFFUSION), how)


def load_model(layout: Layout, how: Runtime = FLOAT32) -> DiffusionModel:
    """Load the diffusion model, on the preset's device, frozen."""
    preset = layout.preset
    network = place(load_diffusion(layout, how).eval().requires_grad_(False), preset.runtime)
    return DiffusionModel(network, preset.drawn_shape, *process(layout), load_autoencoder(layout))


def new_autoencoder(layout: Layout) -> nn.Module:
    spec = layout.preset.diffusion.autoencoder
    assert spec is not None
    return spec.build(layout.preset.dataset.channels)


def untrained_autoencoder(layout: Layout) -> Autoencoder | None:
    """Build the autoencoder of a latent diffusion model; None of another one."""
    spec = layout.preset.diffusion
    if spec.autoencoder:
        return Autoencoder(new_autoencoder(layout))
    return spec.source.autoencoder(spec, layout.model(DIFFUSION), weights=False) if spec.latents else None


def load_autoencoder(layout: Layout) -> Autoencoder | None:
    """Load the autoencoder of a latent diffusion model, on the preset's device; None of another one."""
    spec = layout.preset.diffusion
    if spec.autoencoder:
        network, path = new_autoencoder(layout), layout.model(AUTOENCODER)
        network.load_state_dict(tensor_spec.read(path, tensor_spec.of_network(network), {"model": AUTOENCODER}))
        about = files.read_metadata(path)
        loaded: Autoencoder | None = Autoencoder(network, float(about["scale"]), float(about["shift"]))
    else:
        loaded = spec.source.autoencoder(spec, layout.model(DIFFUSION)) if spec.latents else None
    if loaded is not None:
        place(loaded, layout.preset.runtime)
    return loaded


def process(layout: Layout) -> Process:
    """Return how the diffusion model was trained and is drawn from; a pipeline's is read from the workflow's file."""
    spec = layout.preset.diffusion
    return spec.source.process(spec, layout.model(DIFFUSION))


def full_schedule(layout: Layout) -> Schedule:
    """Return the noise schedule of all timesteps that the diffusion model was trained with."""
    spec = layout.preset.diffusion
    return spec.source.schedule(spec, layout.model(DIFFUSION))


def schedule(layout: Layout, sampler: str) -> Schedule:
    """Return the noise schedule of the timesteps that a sampler takes of the diffusion model's."""
    preset = layout.preset
    return respaced(full_schedule(layout), preset.sampler(sampler), preset.samplers[sampler].steps)


def load_second_stage(layout: Layout) -> SecondStage:
    """Load the stage of a cascade that upsamples, frozen; ConfigError if the diffusion model has none."""
    preset, model = layout.preset, layout.preset.diffusion
    spec = model.upsampling
    if spec is None:
        raise ConfigError(f"{preset.name}: the diffusion model has no second stage, which upsamples")
    network = model.source.load_upsampler(model, layout.model(DIFFUSION))
    mixed_precision.hold_precision(network.eval().requires_grad_(False), preset.runtime)
    place(network, preset.runtime)
    return SecondStage(
        upsampling=network.upsampling,
        shape=preset.finished_shape,
        schedule=Schedule.create(spec.noise_schedule, model.timesteps),
        variance=model.variance,
        temperature=spec.temperature,
        device=device_of(preset.runtime),
    )


# -- guides, judges and the evaluator's classifiers ------------------------------------------------


def shape_of(preset: Preset, name: str) -> Shape:
    """Return the channels, outputs and task that a guide is built for."""
    return Shape(preset.dataset.channels, preset.task_of(name).numbers, preset.task_name(name))


def new_network(layout: Layout, name: str) -> nn.Module:
    """Build a guide's network as its library does: untrained, but for the user's own."""
    preset, spec = layout.preset, _spec(layout.preset, name)
    options = spec.library.options(spec, layout.model(name))
    return build_network(spec.model, options, shape_of(preset, name), preset.module_folders)


def new_guide(layout: Layout, name: str) -> Guide:
    """Build a guide, its network behind its resizing and normalisation, with untrained weights."""
    spec, network = _spec(layout.preset, name), new_network(layout, name)
    seen = spec.input(layout.model(name))._asdict()
    task, channels = layout.preset.task_of(name), layout.preset.dataset.channels
    about: dict[str, Any] = {"options": spec.options, "channels": channels, "published": spec.from_library}
    return Guide(network, **seen, name=spec.model, task=task, **about)


def load_guide(layout: Layout, name: str) -> Guide:
    """Load a guide, on the preset's device, frozen, in eval mode; of one that reads words with its text tower."""
    guide = new_guide(layout, name)
    if layout.preset.task(name).of_words:
        guide.reader = reader(layout, name)
    spec = tensor_spec.of_network(guide.network)
    guide.network.load_state_dict(tensor_spec.read(layout.model(name), spec, {"model": name}))
    place_guide(layout, name, guide.eval().requires_grad_(False))
    return guide


def reader(layout: Layout, name: str) -> Callable[[Sequence[str]], Tensor] | None:
    """Return what turns texts into vectors beside those of images; None if the model reads no words."""
    spec = _spec(layout.preset, name)
    return spec.library.reader(spec, layout.model(name), layout.downloads) if spec.published else None


def place_guide(layout: Layout, name: str, guide: Guide) -> None:
    place(guide, layout.preset.runtime, _spec(layout.preset, name).channels_last)


def hold_precision(layout: Layout, name: str, guide: Guide) -> None:
    """Have a frozen guide, to be run within `autocast`, hold its weights in that precision.

    But for one of the user's own, whose code may count on float32.
    """
    if not _spec(layout.preset, name).library.of_user:
        mixed_precision.hold_precision(guide, layout.preset.runtime)


def _spec(preset: Preset, name: str) -> NetworkConfig:
    spec = preset.networks.get(name)
    if spec is None:
        raise ConfigError(f"{preset.name}: no model '{name}'")
    return spec
