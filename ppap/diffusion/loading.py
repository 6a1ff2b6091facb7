"""Diffusion models from files of others: checkpoints in ADM's format, and pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.networks.adm_source import read_checkpoint, time_scale
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.diffusers_source import Published, class_in, read_index
from ppap.diffusion.networks.pipeline_families import FAMILIES
from ppap.diffusion.networks.pipeline_folder import assembled, downloaded
from ppap.diffusion.networks.pipeline_source import check_drawn, drawn, unconditional
from ppap.diffusion.networks.sources import with_weights
from ppap.diffusion.schedules import Schedule, ScheduleName, VarianceName
from ppap.utils.arguments import checked
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
def load_pipeline(
    pipeline: str | Path | DiffusionPipeline,
    *,
    image_size: Count | tuple[Count, Count] | None = None,
    folder: str | Path = "downloads",
) -> DiffusionModel:
    """Load a pipeline of diffusers: by its name on the Hugging Face hub, its folder, or itself.

    - Unconditional ones of pixels, with a UNet2DModel.
    - Latent ones: StableDiffusionPipeline, StableDiffusionXLPipeline, StableDiffusion3Pipeline, FluxPipeline,
      ChromaPipeline, AuraFlowPipeline, DiTPipeline, PixArtAlphaPipeline, PixArtSigmaPipeline, SanaPipeline, LDMPipeline
      and LDMTextToImagePipeline.
    - IFPipeline: DeepFloyd's first stage, of pixels, by prompts.

    Those that draw by prompts, or classes, are told them by `DiffusionModel.prompted`. `image_size`, of pictures, is one
    number or height and width; by default that of the pipeline's configuration.

    What its scheduler says of betas, timesteps, prediction, variance and clipping is honoured: `sample` with "ddim"
    draws what diffusers' DDIMScheduler of the same settings does (with `use_clipped_model_output` where it clips), and
    "euler" of a flow what its FlowMatchEulerDiscreteScheduler does, shifted by the size as the pipeline shifts it. Its
    own solver (order, Karras's sigmas) is left to `guided`. A name is downloaded to `folder`; numbers alone are read,
    and no code of the pipeline's. ConfigError for other pipelines, or if the scheduler says what samplers here cannot
    honour; DataError if it cannot be had or read.
    """
    if isinstance(pipeline, str | Path):
        name, cache = str(pipeline), Path(folder) / "huggingface"
        index = read_index(name, cache)
        if str(index.get("_class_name")) not in FAMILIES:  # a list names code of the pipeline's own
            check_drawn(index.get("_class_name"), class_in(index.get("unet")))
            published = Published.read(name, cache, image_size)
            network = with_weights(published.network, published.weights())
            return DiffusionModel(network.eval().requires_grad_(False), published.shape, *published.process)
        pipeline = assembled(downloaded(name, index, cache), index)
    how = drawn if type(pipeline).__name__ in FAMILIES else unconditional
    network, shape, process, autoencoder = how(pipeline, image_size)
    return DiffusionModel(network.eval().requires_grad_(False), shape, *process, autoencoder)
