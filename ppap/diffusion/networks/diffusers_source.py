"""Unconditional pipelines of diffusers, each with a UNet2DModel. Imported only where one is used.

Of a pipeline only numbers are read: the settings of its U-Net and scheduler, and the U-Net's weights. Classes of
its own, which diffusers may import from the pipeline's folder, are never asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ppap.config import Preset
from ppap.data import hub
from ppap.diffusion.networks.sources import DownloadFolder, SourceCode, read_weights
from ppap.diffusion.schedules import PredictionName, ScheduleName, betas
from ppap.utils import files, weights
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.settings import DIFFUSION
from ppap.utils.tensor_spec import of_published
from ppap.workflow.layout import Layout

try:
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
except ImportError:
    raise ConfigError("a pipeline needs diffusers: pip install 'ppap[diffusers]'") from None

PREDICTIONS: dict[str, PredictionName] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""What networks predict, by diffusers' names."""
# Names from before diffusers 0.17, which most pixel pipelines on the hub still have.
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(rf"(attentions\.\d+)\.({'|'.join(_ATTENTION)})\.(weight|bias)$")


class UNet(nn.Module):
    """diffusers' U-Net, called as network(x_t, t); it returns its prediction, or that and the variance."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, t, return_dict=False)[0]


class Pipeline(SourceCode):
    """A pipeline's U-Net. What it is is known once it has been downloaded, from the metadata of the workflow's file."""

    def build(self, layout: Layout) -> nn.Module:
        path = layout.model(DIFFUSION)
        metadata = files.read_metadata(path)
        if "unet" not in metadata:
            raise DataError(f"{path}: not made from a diffusers pipeline; download it again")
        return UNet(_made(UNet2DModel, json.loads(metadata["unet"]), path))

    def load(self, layout: Layout, how: Runtime) -> nn.Module:
        network = self.build(layout)
        network.load_state_dict(read_weights(layout, of_published(network)))
        return hold_precision(network, how)

    def download(
        self, preset: Preset, downloads: DownloadFolder
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """As in SourceCode, from a folder or from the Hugging Face hub, whose downloads are resumed and checked."""
        pipeline = preset.diffusion.pipeline
        assert pipeline is not None
        published = Published.read(pipeline, downloads.folder / "huggingface")
        _check_network(published.network.unet, preset)
        _check_scheduler(published.scheduler, preset)
        tensors, unet = published.weights(), published.network.unet
        about = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        source = hub.source_of(pipeline, published.folder)
        return tensors, source | {"unet": json.dumps(about)}


class Published(NamedTuple):
    """A pipeline as it is published: its folder, its U-Net without weights, its scheduler with the betas of training."""

    folder: Path
    network: UNet
    scheduler: Any

    @classmethod
    def read(cls, pipeline: str, cache: Path) -> Published:
        """Of a folder, or from the Hugging Face hub by way of `cache`.

        ConfigError if it has no unconditional U-Net of pixels, or another kind of scheduler; DataError if it cannot be
        had or read.
        """
        folder = _folder(pipeline, cache)
        settings = _settings(folder, "unet", UNet2DModel.config_name)
        if settings.pop("_class_name", None) != UNet2DModel.__name__:
            raise ConfigError(f"pipeline '{pipeline}' has no unconditional U-Net of pixels")
        with torch.device("meta"):
            network = UNet(_made(UNet2DModel, settings, folder))
        scheduler = _settings(folder, "scheduler", DDPMScheduler.config_name)
        if "beta_schedule" not in scheduler:
            name = scheduler.get("_class_name")
            raise ConfigError(
                f"pipeline '{pipeline}': its scheduler ({name}) has no betas as DDPM's"
            )
        return cls(folder, network, _made(DDPMScheduler, scheduler, folder))

    def weights(self) -> dict[str, Tensor]:
        """Of the U-Net, by the names of `network`; DataError if they are others."""
        path = _file(self.folder, "unet", SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)
        read = weights.read_weights(path)
        tensors = {f"unet.{_present(name)}": value for name, value in read.items()}
        weights.check_weights(self.network, tensors, path)
        return tensors


def _folder(pipeline: str, cache: Path) -> Path:
    """The pipeline's folder, downloaded if it has to be: settings, and weights of the U-Net in one format."""
    formats = [(name, f"unet/{name}") for name in (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)]
    return hub.folder_of(pipeline, cache, ("*.json",), formats, f"pipeline '{pipeline}'")


def _file(folder: Path, part: str, *names: str) -> Path:
    """The first of these files that the pipeline has for its U-Net or its scheduler; DataError if it has none."""
    for path in _places(folder, part, *names):
        return path
    raise DataError(f"pipeline {folder} cannot be read: no {' or '.join(names)}, nor in {part}/")


def _places(folder: Path, part: str, *names: str) -> Iterator[Path]:
    """Where such files lie: in a folder of their own, or, in the oldest pipelines, beside one another."""
    paths = (folder / where / name for where in (part, "") for name in names)
    return (path for path in paths if path.is_file())


def _settings(folder: Path, part: str, name: str) -> dict[str, Any]:
    path = _file(folder, part, name)
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a mapping of settings")
    return found


def _made(kind: Any, settings: dict[str, Any], source: Path) -> Any:
    """A class of diffusers with these settings; DataError if it does not take them."""
    plain = {name: value for name, value in settings.items() if not name.startswith("_")}
    try:
        return kind.from_config(plain)
    except Exception as error:  # whatever a stranger's numbers lead to
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{source}: its settings make no {kind.__name__} ({reason})") from error


def _present(name: str) -> str:
    """The name that a weight of an attention has today."""
    return _OLD_NAME.sub(lambda old: f"{old[1]}.{_ATTENTION[old[2]]}.{old[3]}", name)


def _check_network(unet: Any, preset: Preset) -> None:
    data, spec = preset.dataset, preset.diffusion
    outputs = data.channels * (2 if spec.variance == "learned_range" else 1)
    for name, found, wanted, key in (
        ("sample_size", unet.config.sample_size, data.image_size, "dataset.image_size"),
        ("in_channels", unet.config.in_channels, data.channels, "dataset.channels"),
        ("out_channels", unet.config.out_channels, outputs, "diffusion.variance"),
        ("class_embed_type", unet.class_embedding, None, "diffusion.pipeline"),
    ):
        if found != wanted:
            raise ConfigError(f"{key}: the pipeline's {name} is {found}, the preset needs {wanted}")


def _check_scheduler(scheduler: Any, preset: Preset) -> None:
    """The pipeline's betas must be those of the preset's noise schedule."""
    spec = preset.diffusion
    predicts = PREDICTIONS.get(scheduler.config["prediction_type"])
    if predicts != spec.predicts:
        raise ConfigError(
            f"diffusion.predicts: {spec.predicts}, the pipeline predicts "
            f"{predicts or scheduler.config['prediction_type']}"
        )
    theirs = scheduler.betas.double().numpy()
    if len(theirs) != spec.timesteps:
        raise ConfigError(f"diffusion.timesteps: {spec.timesteps}, the pipeline has {len(theirs)}")
    ours = {name: betas(name, spec.timesteps) for name in get_args(ScheduleName)}
    fitting = [name for name, values in ours.items() if np.allclose(theirs, values, rtol=1e-3)]
    if spec.noise_schedule not in fitting:
        hint = (
            f"say {fitting[0]}" if fitting else f"it is none of {', '.join(ours)} as we have them"
        )
        raise ConfigError(
            f"diffusion.noise_schedule: {spec.noise_schedule}, but the pipeline's is another one "
            f"({scheduler.config['beta_schedule']}): {hint}"
        )
