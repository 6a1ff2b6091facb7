"""Pipelines of diffusers with latents or prompts, read into what a diffusion model is."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Process
from ppap.diffusion.networks.diffusers_latents import scaled
from ppap.diffusion.networks.diffusers_scheduler import flow_process_of, is_flow, process_of
from ppap.diffusion.networks.diffusers_source import ImageSize, UNet, called, check_parts, network_of, sized
from ppap.diffusion.networks.pipeline_families import FAMILIES
from ppap.diffusion.networks.pipeline_family import Family
from ppap.diffusion.networks.prompted import Prompted
from ppap.utils.arguments import shown
from ppap.utils.errors import ConfigError

Shape = tuple[int, int, int]


class Drawn(NamedTuple):
    """A pipeline as a diffusion model: its network, the shape (C, H, W) of its images, its process and autoencoder."""

    network: nn.Module
    shape: Shape
    process: Process
    autoencoder: Autoencoder | None


def drawn(pipeline: Any, image_size: ImageSize | None) -> Drawn:
    """Read a pipeline of one of the `FAMILIES`, for pictures of this size; the pipeline's own if it is None.

    ConfigError, naming the part and the key, if the pipeline lacks a part, or its parts do not fit one another.
    """
    kind = FAMILIES[type(pipeline).__name__]
    for part in (kind.network, kind.autoencoder, "scheduler"):
        if part is not None and getattr(pipeline, part, None) is None:
            raise ConfigError(f"{type(pipeline).__name__}: {part}: the pipeline has none")
    family = kind(pipeline)
    autoencoder = None if kind.autoencoder is None else scaled(getattr(pipeline, kind.autoencoder))
    shape = _shape(family, autoencoder, image_size)
    process = _process(family, shape)
    network = getattr(pipeline, kind.network)
    if not kind.told_of_prompts:
        network_of(sized(network.config, shape[1:]), process, kind.network)
        return Drawn(called(network), shape, process, autoencoder)
    if network.config.get("time_cond_proj_dim"):
        raise ConfigError(
            f"{kind.network}: time_cond_proj_dim: a network of few steps, whose sampler is none of those here"
        )
    outputs = shape[0] * (2 if process.variance == "learned_range" else 1)
    given = (network.config.get("out_channels") or network.config["in_channels"]) // family.packed**2
    if given < outputs:
        raise ConfigError(
            f"{kind.network}: out_channels: {given} for {shape[0]} channels, whose variance_type is {process.variance}; "
            f"{outputs} were expected"
        )
    return Drawn(Prompted(network, family, outputs), shape, process, autoencoder)


def unconditional(pipeline: Any, image_size: ImageSize | None) -> Drawn:
    """Read a pipeline of pixels with a UNet2DModel, as `drawn` reads the others."""
    unet, scheduler = (getattr(pipeline, part, None) for part in ("unet", "scheduler"))
    name = type(pipeline).__name__
    if any(kind.__name__ == "DiffusionPipeline" for kind in type(pipeline).__mro__):
        check_drawn(name, None if unet is None else type(unet).__name__)
    if unet is None or scheduler is None:
        raise ConfigError(
            f"pipeline: {shown(pipeline)}; one with `unet` and `scheduler`, its folder or its name on the hub was expected"
        )
    network = called(unet)
    if not isinstance(network, UNet):
        raise ConfigError(f"unet: {type(unet).__name__}; only UNet2DModel draws")
    check_parts(name, {part: None if value is None else type(value).__name__ for part, value in vars(pipeline).items()})
    process = process_of(getattr(scheduler, "config", {}), type(scheduler).__name__, "scheduler")
    return Drawn(network, network_of(sized(unet.config, image_size), process, "unet")[1], process, None)


def check_drawn(name: object, unet: str | None) -> None:
    """Raise ConfigError if a pipeline of this class, which is none of the `FAMILIES`, has no unconditional U-Net."""
    if name is not None and (unet is None or "Condition" in unet):
        raise ConfigError(f"{name}: cannot be drawn; {', '.join(FAMILIES)} can, and unconditional ones of pixels")


def _shape(family: Family, autoencoder: Autoencoder | None, image_size: ImageSize | None) -> Shape:
    """Find the shape of the images that the network draws; ConfigError if the autoencoder's latents are others."""
    channels, name = family.channels, family.network
    factor = 1
    if autoencoder is not None:
        about: Any = autoencoder.network.config
        if channels != about.get("latent_channels", channels):
            raise ConfigError(
                f"{name}: in_channels: {channels}, but the latents of its autoencoder have {about['latent_channels']}"
            )
        factor = getattr(family.pipeline, "vae_scale_factor", None) or 2 ** (len(about["block_out_channels"]) - 1)
    size, key = (family.size, f"{name}: sample_size") if image_size is None else (image_size, "image_size")
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if image_size is None:
        factor = 1
    unit = factor * family.unit
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 or side % unit for side in sides):
        raise ConfigError(f"{key}: {size}; a multiple of {unit}, or two for height and width, was expected")
    return channels, sides[0] // factor, sides[1] // factor


def _process(family: Family, shape: Shape) -> Process:
    scheduler = family.pipeline.scheduler
    about, kind = getattr(scheduler, "config", {}), type(scheduler).__name__
    if is_flow(about, kind):
        return flow_process_of(about, kind, "scheduler", lambda steps: family.asked(steps, *shape[1:]))
    clips = {} if family.autoencoder is None or "clip_sample" in about else {"clip_sample": False}
    return process_of({**about, **clips}, kind, "scheduler")
