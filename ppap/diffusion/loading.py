"""Diffusion models from files of others: checkpoints in ADM's format, and pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.networks.adm_source import read_checkpoint, time_scale
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.diffusers_scheduler import process_of
from ppap.diffusion.networks.diffusers_source import Published, UNet, called, check_parts, network_of
from ppap.diffusion.networks.sources import with_weights
from ppap.diffusion.schedules import Schedule, ScheduleName, VarianceName
from ppap.utils.arguments import checked, shown
from ppap.utils.errors import ConfigError
from ppap.utils.settings import Count

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@checked
def load_adm(
    path: str | Path,
    architecture: ADMArchitecture | Mapping[str, Any],
    image_size: Count,
    *,
    schedule: ScheduleName = "linear",
    timesteps: Count = 1000,
    rescale_timesteps: bool = False,
    variance: VarianceName | None = None,
) -> DiffusionModel:
    """Load a checkpoint in the public ADM format (Dhariwal & Nichol 2021; .pt or .safetensors), in float32 on the CPU.

    `architecture` is as in presets (`diffusion.architecture`); config/imagenet256.yaml has that of the public model of
    256 pixels; with `rescale_timesteps` it was trained to see t * 1000 / T. `variance` is "learned_range" where the
    network learns it, else "fixed_small", unless given. ConfigError for an architecture that cannot be; DataError if
    the file holds other weights. It is never unpickled.
    """
    architecture = ADMArchitecture.model_validate(architecture)
    network, tensors = read_checkpoint(Path(path), architecture, time_scale(timesteps, rescale_timesteps))
    with_weights(network, tensors).eval().requires_grad_(False)
    return DiffusionModel(
        network,
        (architecture.in_channels, image_size, image_size),
        Schedule.create(schedule, timesteps),
        variance or ("learned_range" if architecture.learn_sigma else "fixed_small"),
    )


@checked
def load_pipeline(pipeline: str | Path | DiffusionPipeline, *, folder: str | Path = "downloads") -> DiffusionModel:
    """Load an unconditional pipeline of diffusers: by its name on the Hugging Face hub, its folder, or itself.

    What its scheduler says of betas, timesteps, prediction, variance and clipping is honoured: `sample` with "ddim"
    draws what diffusers' DDIMScheduler of the same settings does (with `use_clipped_model_output` where it clips). Its
    own solver (order, Karras's sigmas) is left to `guided`. A name is downloaded to `folder`; numbers alone are read,
    and no code of the pipeline's. ConfigError if it has no unconditional U-Net of pixels, or its scheduler says what
    samplers here cannot honour; DataError if it cannot be had or read.
    """
    if isinstance(pipeline, str | Path):
        published = Published.read(str(pipeline), Path(folder) / "huggingface")
        shape, process = published.shape, published.process
        network = with_weights(published.network, published.weights())
    else:
        unet, scheduler = (getattr(pipeline, part, None) for part in ("unet", "scheduler"))
        if unet is None or scheduler is None:
            raise ConfigError(
                f"pipeline: {shown(pipeline)}; one with `unet` and `scheduler`, its folder or its name on the hub was expected"
            )
        network = called(unet)
        if not isinstance(network, UNet):
            raise ConfigError(f"unet: {type(unet).__name__}; only UNet2DModel draws")
        kinds = {name: None if part is None else type(part).__name__ for name, part in vars(pipeline).items()}
        check_parts(type(pipeline).__name__, kinds)
        process = process_of(getattr(scheduler, "config", {}), type(scheduler).__name__, "scheduler")
        _, shape = network_of(unet.config, process, "unet")
    return DiffusionModel(network.eval().requires_grad_(False), shape, *process)
