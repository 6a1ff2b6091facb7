"""Unconditional pipelines of diffusers, each with a UNet2DModel.

Only numbers are read of a pipeline: the settings of its U-Net and scheduler, and the U-Net's weights. Classes of
its own, which diffusers may import from the pipeline's folder, are never asked for.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ppap.data import hub
from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.diffusion.networks.sources import DiffusionSettings, Source, read_weights
from ppap.diffusion.schedules import PredictionName, ScheduleName, betas
from ppap.utils import files, weights
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.tensor_spec import of_published

PREDICTIONS: dict[str, PredictionName] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""The predictions of networks, by diffusers' names."""
LATENT = ("vae", "vqvae")
"""Parts of pipelines whose U-Net draws no pixels."""
# Names from before diffusers 0.17, which most pixel pipelines on the hub still have.
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_STEM = "diffusion_pytorch_model"
_INDEX = f"{_STEM}.safetensors.index.json"
# The first format that is there is read, each a file, or an index of files and these.
_FORMATS = (
    (f"{_STEM}.safetensors",),
    (_INDEX, f"{_STEM}-*-of-*.safetensors"),
    (f"{_STEM}.fp16.safetensors",),
    (f"{_STEM}.bin",),
)
_OLD_NAME = re.compile(rf"(attentions\.\d+)\.({'|'.join(_ATTENTION)})\.(weight|bias)$")


class UNet(nn.Module):
    """diffusers' U-Net, called as network(x_t, t); it returns its prediction, or that and the variance."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, t, return_dict=False)[0]


class Pipeline(Source):
    """A pipeline's U-Net. What it is is known once it has been downloaded, from the metadata of the workflow's file."""

    download_reads = (
        *("dataset.image_size", "dataset.channels", "diffusion.noise_schedule"),
        *("diffusion.timesteps", "diffusion.variance", "diffusion.predicts", "diffusion.pipeline"),
    )
    has_architecture = False
    predicts_any = True

    def build(self, settings: DiffusionSettings, file: Path) -> nn.Module:
        metadata = files.read_metadata(file)
        if "unet" not in metadata:
            raise DataError(f"{file}: not made from a diffusers pipeline; download it again")
        return UNet(_made("UNet2DModel", json.loads(metadata["unet"]), file))

    def load(self, settings: DiffusionSettings, file: Path, how: Runtime) -> nn.Module:
        network = self.build(settings, file)
        network.load_state_dict(read_weights(file, of_published(network)))
        return hold_precision(network, how)

    def download(
        self, settings: DiffusionSettings, images: DatasetConfig, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Download as in Source, from a folder or from the Hugging Face hub, which resumes and checks downloads."""
        assert settings.pipeline is not None
        published = Published.read(settings.pipeline, downloads.folder / "huggingface")
        _check_network(published.network.unet, settings, images)
        _check_scheduler(published.scheduler, settings)
        tensors, unet = published.weights(), published.network.unet
        about = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        source = hub.source_of(settings.pipeline, published.folder)
        return tensors, source | {"unet": json.dumps(about)}


class Published(NamedTuple):
    """A pipeline as it is published: its folder, its U-Net without weights, its scheduler with the betas of training."""

    folder: Path
    network: UNet
    scheduler: Any

    @classmethod
    def read(cls, pipeline: str, cache: Path) -> Published:
        """Read a folder, or download one from the Hugging Face hub to `cache` first.

        ConfigError if it has no unconditional U-Net of pixels, or another kind of scheduler; DataError if it cannot be
        had or read.
        """
        _need_diffusers()
        formats = [[*names, *(f"unet/{name}" for name in names)] for names in _FORMATS]
        folder = hub.folder_of(pipeline, cache, ("*.json",), formats, f"pipeline '{pipeline}'")
        settings = files.read_json(_file(folder, "unet", "config.json"))
        latent = any((folder / part).is_dir() for part in LATENT)
        if latent or settings.pop("_class_name", None) != "UNet2DModel":
            raise ConfigError(f"pipeline '{pipeline}' has no unconditional U-Net of pixels")
        with torch.device("meta"):
            network = UNet(_made("UNet2DModel", settings, folder))
        scheduler = files.read_json(_file(folder, "scheduler", "scheduler_config.json"))
        if "beta_schedule" not in scheduler:
            name = scheduler.get("_class_name")
            raise ConfigError(f"pipeline '{pipeline}': its scheduler ({name}) has no betas as DDPM's")
        return cls(folder, network, _made("DDPMScheduler", scheduler, folder))

    def weights(self) -> dict[str, Tensor]:
        """Read the U-Net's weights, by the names of `network`; DataError if they are others."""
        path = _file(self.folder, "unet", *(name for name, *_ in _FORMATS))
        parts = _listed(path) if path.name == _INDEX else [path]
        read = [item for part in parts for item in weights.read_weights(part).items()]
        tensors = {f"unet.{_OLD_NAME.sub(_new_name, name)}": value for name, value in read}
        weights.check_weights(self.network, tensors, path)
        return tensors


def _need_diffusers() -> None:
    try:
        import diffusers  # noqa: F401
    except ImportError:
        raise ConfigError("a pipeline needs diffusers: pip install 'ppap[diffusers]'") from None


def _listed(index: Path) -> list[Path]:
    """List the files beside an index that it says the weights are in."""
    listed = files.read_json(index).get("weight_map")
    names = {str(name) for name in listed.values()} if isinstance(listed, dict) else set()
    return [index.with_name(Path(name).name) for name in sorted(names)]


def _file(folder: Path, part: str, *names: str) -> Path:
    """Find the first of these files of the U-Net or the scheduler; DataError if there is none.

    They lie in a folder of their own or, in the oldest pipelines, beside one another.
    """
    for path in (folder / where / name for where in (part, "") for name in names):
        if path.is_file():
            return path
    raise DataError(f"pipeline {folder} cannot be read: no {' or '.join(names)}, nor in {part}/")


def _made(kind: str, settings: dict[str, Any], source: Path) -> Any:
    """Make an object of this class of diffusers with these settings; DataError if it does not take them."""
    _need_diffusers()
    import diffusers

    plain = {name: value for name, value in settings.items() if not name.startswith("_")}
    try:
        return getattr(diffusers, kind).from_config(plain)
    except Exception as error:  # whatever a stranger's numbers lead to
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{source}: its settings make no {kind} ({reason})") from error


def _new_name(old: re.Match[str]) -> str:
    """Return the name that a weight of an attention has today."""
    return f"{old[1]}.{_ATTENTION[old[2]]}.{old[3]}"


def _check_network(unet: Any, settings: DiffusionSettings, images: DatasetConfig) -> None:
    outputs = images.channels * (2 if settings.variance == "learned_range" else 1)
    size = unet.config.sample_size  # of a side, or of both
    side = size[0] if isinstance(size, list | tuple) and len({*size}) == 1 else size
    for name, theirs, wanted, key in (
        ("sample_size", side, images.image_size, "dataset.image_size"),
        ("in_channels", unet.config.in_channels, images.channels, "dataset.channels"),
        ("out_channels", unet.config.out_channels, outputs, "diffusion.variance"),
        ("class_embed_type", unet.class_embedding, None, "diffusion.pipeline"),
    ):
        if theirs != wanted:
            raise ConfigError(f"{key}: the pipeline's {name} is {theirs}, the preset needs {wanted}")


def _check_scheduler(scheduler: Any, settings: DiffusionSettings) -> None:
    """The pipeline's betas must be those of the preset's noise schedule."""
    said = scheduler.config["prediction_type"]
    predicts = PREDICTIONS.get(said)
    if predicts != settings.predicts:
        raise ConfigError(f"diffusion.predicts: {settings.predicts}, the pipeline predicts {predicts or said}")
    theirs, timesteps = scheduler.betas.double().numpy(), settings.timesteps
    if len(theirs) != timesteps:
        raise ConfigError(f"diffusion.timesteps: {timesteps}, the pipeline has {len(theirs)}")
    ours = {name: betas(name, timesteps) for name in get_args(ScheduleName)}
    fitting = [name for name, values in ours.items() if np.allclose(theirs, values, rtol=1e-3)]
    if settings.noise_schedule not in fitting:
        none = f"it is none of {', '.join(ours)} as we have them"
        raise ConfigError(
            f"diffusion.noise_schedule: {settings.noise_schedule}, but the pipeline's is another one "
            f"({scheduler.config['beta_schedule']}): {f'say {fitting[0]}' if fitting else none}"
        )
