"""Unconditional pipelines of diffusers: a UNet2DModel that predicts eps. Imported only where one is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import Tensor, nn

from ppap.config import Config
from ppap.errors import ConfigError, DataError
from ppap.schedules import ScheduleName, betas

try:
    from diffusers import DDPMScheduler, DiffusionPipeline, UNet2DModel
except ImportError:
    raise ConfigError(
        "diffusion.pipeline: needs diffusers: pip install 'ppap[diffusers]'"
    ) from None


class UNet(nn.Module):
    """diffusers' U-Net, called as network(x_t, t); it returns eps, or eps and v."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, t, return_dict=False)[0]


def build(metadata: dict[str, str], source: Path) -> nn.Module:
    """The U-Net that `read_pipeline` has described, with untrained weights."""
    if "unet" not in metadata:
        raise DataError(f"{source}: not made from a diffusers pipeline; download it again")
    return UNet(UNet2DModel.from_config(json.loads(metadata["unet"])))


def read_pipeline(
    pipeline: str, config: Config, downloads: Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights of a pipeline's U-Net, and its hyper-parameters as metadata.

    `pipeline` is a folder or a name on the Hugging Face hub; diffusers resumes and checks its downloads.
    DataError if it cannot be read, ConfigError if it does not fit the preset.
    """
    try:
        loaded = DiffusionPipeline.from_pretrained(pipeline, cache_dir=downloads / "huggingface")
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"diffusion.pipeline: '{pipeline}' cannot be read ({reason}). Without network: save the "
            "pipeline's folder elsewhere, copy it here and set diffusion.pipeline to its path"
        ) from None
    if not isinstance(getattr(loaded, "unet", None), UNet2DModel):
        raise ConfigError(f"diffusion.pipeline: '{pipeline}' has no unconditional U-Net of pixels")
    unet: Any = loaded.unet
    _check_network(unet, config)
    _check_scheduler(loaded.scheduler.config, config)
    about = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    return UNet(unet).state_dict(), {"source": pipeline, "unet": json.dumps(about)}


def _check_network(unet: Any, config: Config) -> None:
    data, spec = config.dataset, config.diffusion
    outputs = data.channels * (2 if spec.variance == "learned_range" else 1)
    for name, found, wanted, key in (
        ("sample_size", unet.config.sample_size, data.image_size, "dataset.image_size"),
        ("in_channels", unet.config.in_channels, data.channels, "dataset.channels"),
        ("out_channels", unet.config.out_channels, outputs, "diffusion.variance"),
        ("class_embed_type", unet.class_embedding, None, "diffusion.pipeline"),
    ):
        if found != wanted:
            raise ConfigError(f"{key}: the pipeline's {name} is {found}, the preset needs {wanted}")


def _check_scheduler(scheduler: dict[str, object], config: Config) -> None:
    """The pipeline's betas must be those of the preset's noise schedule."""
    spec = config.diffusion
    if scheduler.get("prediction_type", "epsilon") != "epsilon":
        raise ConfigError(
            f"diffusion.pipeline: predicts {scheduler['prediction_type']}, not epsilon"
        )
    if scheduler["num_train_timesteps"] != spec.timesteps:
        raise ConfigError(
            f"diffusion.timesteps: {spec.timesteps}, the pipeline has {scheduler['num_train_timesteps']}"
        )
    theirs = DDPMScheduler.from_config(scheduler).betas.double().numpy()
    ours = {name: betas(name, spec.timesteps) for name in get_args(ScheduleName)}
    fitting = [name for name, values in ours.items() if np.allclose(theirs, values, rtol=1e-3)]
    if spec.noise_schedule not in fitting:
        hint = (
            f"say {fitting[0]}" if fitting else f"it is none of {', '.join(ours)} as we have them"
        )
        raise ConfigError(
            f"diffusion.noise_schedule: {spec.noise_schedule}, but the pipeline's is another one "
            f"({scheduler.get('beta_schedule')}): {hint}"
        )
