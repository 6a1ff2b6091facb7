"""Diffusion models: checkpoints in ADM's format, pipelines of diffusers; `DiffusionModel` itself takes a U-Net of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ppap.config import section
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.schedules import Schedule, ScheduleName, VarianceName
from ppap.utils import weights
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
    variance: VarianceName | None = None,
) -> DiffusionModel:
    """A checkpoint in the public ADM format (Dhariwal & Nichol 2021; .pt or .safetensors), in float32 on the CPU.

    `architecture` is as in presets (`diffusion.architecture`); config/imagenet256.yaml has that of the public model of
    256 pixels. `variance` is "learned_range" where the network learns it, else "fixed_small", unless given. ConfigError
    for an architecture that cannot be; DataError if the file holds other weights. It is never unpickled.
    """
    known = (
        architecture
        if isinstance(architecture, ADMArchitecture)
        else section(ADMArchitecture, dict(architecture))
    )
    with torch.device("meta"):
        network = ADM(known)
    found = weights.read_weights(Path(path))
    weights.check_weights(network, found, path)
    _assign(network, found)
    return DiffusionModel(
        network,
        (known.in_channels, image_size, image_size),
        Schedule.create(schedule, timesteps),
        variance or ("learned_range" if known.learn_sigma else "fixed_small"),
    )


def load_pipeline(
    pipeline: str | Path | DiffusionPipeline, *, folder: str | Path = "downloads"
) -> DiffusionModel:
    """An unconditional pipeline of diffusers: by its name on the Hugging Face hub, its folder, or itself.

    Its betas, its prediction (eps, x0 or v) and its variance are those of its scheduler. A name is downloaded to
    `folder`; numbers alone are read, and no code of the pipeline's. ConfigError if it has no unconditional U-Net of
    pixels, or its scheduler no betas; DataError if it cannot be had or read.
    """
    from ppap.diffusion.networks.diffusers_source import Published, UNet

    if not isinstance(pipeline, str | Path):
        loaded: Any = pipeline
        return _of_unet(UNet(loaded.unet).eval().requires_grad_(False), loaded.scheduler)
    published = Published.read(str(pipeline), Path(folder) / "huggingface")
    _assign(published.network, published.weights())
    return _of_unet(published.network, published.scheduler)


def _of_unet(network: Any, scheduler: Any) -> DiffusionModel:
    from ppap.diffusion.networks.diffusers_source import PREDICTIONS

    unet, about = network.unet.config, scheduler.config
    predicts = PREDICTIONS.get(about.get("prediction_type", "epsilon"))
    if predicts is None or not hasattr(scheduler, "betas"):
        raise ConfigError(
            f"scheduler {type(scheduler).__name__}: predicts {about.get('prediction_type')}; one with betas was "
            "expected, which predicts eps, x0 or v"
        )
    channels, size = unet.in_channels, unet.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    fixed = "fixed_large" if "large" in str(about.get("variance_type")) else "fixed_small"
    learned = unet.out_channels == 2 * channels
    return DiffusionModel(
        network,
        (channels, height, width),
        Schedule.of_betas(scheduler.betas.double().numpy()),
        "learned_range" if learned else fixed,  # type: ignore[arg-type]
        predicts,
    )


def _assign(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a network on the meta device its weights, in float32, and freeze it."""
    copies = {name: value.to(torch.float32, copy=True) for name, value in tensors.items()}
    network.load_state_dict(copies, assign=True)
    network.eval().requires_grad_(False)
