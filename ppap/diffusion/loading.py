"""Diffusion models from files of others: checkpoints in ADM's format, and pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.networks.adm_source import read_checkpoint, time_scale
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.diffusers_source import LATENT, PREDICTIONS, Published, UNet
from ppap.diffusion.networks.sources import with_weights
from ppap.diffusion.schedules import Schedule, ScheduleName, VarianceName
from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load_adm(
    path: str | Path,
    architecture: ADMArchitecture | Mapping[str, Any],
    image_size: int,
    *,
    schedule: ScheduleName = "linear",
    timesteps: int = 1000,
    rescale_timesteps: bool = False,
    variance: VarianceName | None = None,
) -> DiffusionModel:
    """Load a checkpoint in the public ADM format (Dhariwal & Nichol 2021; .pt or .safetensors), in float32 on the CPU.

    `architecture` is as in presets (`diffusion.architecture`); config/imagenet256.yaml has that of the public model of
    256 pixels; with `rescale_timesteps` it was trained to see t * 1000 / T. `variance` is "learned_range" where the
    network learns it, else "fixed_small", unless given. ConfigError for an architecture that cannot be; DataError if
    the file holds other weights. It is never unpickled.
    """
    if not isinstance(architecture, ADMArchitecture):
        try:
            architecture = ADMArchitecture.model_validate(dict(architecture))
        except ValidationError as error:
            first = error.errors()[0]
            unknown = first["type"] == "extra_forbidden"
            reason = "unknown key" if unknown else first["msg"].removeprefix("Value error, ")
            where = "".join(f"{key}: " for key in first["loc"])
            raise ConfigError(f"architecture: {where}{reason}") from None
    network, tensors = read_checkpoint(Path(path), architecture, time_scale(timesteps, rescale_timesteps))
    with_weights(network, tensors).eval().requires_grad_(False)
    return DiffusionModel(
        network,
        (architecture.in_channels, image_size, image_size),
        Schedule.create(schedule, timesteps),
        variance or ("learned_range" if architecture.learn_sigma else "fixed_small"),
    )


def load_pipeline(pipeline: str | Path | DiffusionPipeline, *, folder: str | Path = "downloads") -> DiffusionModel:
    """Load an unconditional pipeline of diffusers: by its name on the Hugging Face hub, its folder, or itself.

    Its betas, its prediction (eps, x0 or v) and its variance are those of its scheduler. A name is downloaded to
    `folder`; numbers alone are read, and no code of the pipeline's. ConfigError if it has no unconditional U-Net of
    pixels, or its scheduler no betas; DataError if it cannot be had or read.
    """
    if isinstance(pipeline, str | Path):
        published = Published.read(str(pipeline), Path(folder) / "huggingface")
        with_weights(published.network, published.weights())
        network, scheduler = published.network, published.scheduler
    else:
        loaded: Any = pipeline
        if any(hasattr(loaded, part) for part in LATENT):
            raise ConfigError(f"{type(loaded).__name__}: draws no pixels, but latents")
        network, scheduler = UNet(loaded.unet), loaded.scheduler
    return _of_unet(network.eval().requires_grad_(False), scheduler)


def _of_unet(network: UNet, scheduler: Any) -> DiffusionModel:
    unet, about = network.unet.config, scheduler.config
    predicts = PREDICTIONS.get(about.get("prediction_type", "epsilon"))
    if predicts is None or not hasattr(scheduler, "betas"):
        raise ConfigError(
            f"scheduler {type(scheduler).__name__}: predicts {about.get('prediction_type')}; one with betas was "
            "expected, which predicts eps, x0 or v"
        )
    if getattr(network.unet, "class_embedding", None) is not None:
        raise ConfigError("the pipeline's U-Net asks for a class; only unconditional ones draw")
    channels, size = unet.in_channels, unet.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    fixed: VarianceName = "fixed_large" if "large" in str(about.get("variance_type")) else "fixed_small"
    learned = unet.out_channels == 2 * channels
    return DiffusionModel(
        network,
        (channels, height, width),
        Schedule.of_betas(scheduler.betas.double().numpy()),
        "learned_range" if learned else fixed,
        predicts,
    )
