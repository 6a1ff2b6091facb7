"""Unconditional pipelines of diffusers, each with a UNet2DModel.

Only numbers are read of a pipeline: the settings of its U-Net and scheduler, and the U-Net's weights. Classes of
its own, which diffusers may import from the pipeline's folder, are never asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ppap.data import hub
from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Process
from ppap.diffusion.networks.diffusers_scheduler import process_of
from ppap.diffusion.networks.pipeline_folder import read_network, weights_in
from ppap.diffusion.networks.sources import Source, Trial, read_weights
from ppap.diffusion.schedules import Schedule
from ppap.diffusion.schedules import betas as named_betas
from ppap.utils import files
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError, DataError, need, reason
from ppap.utils.mixed_precision import hold_precision, is_cast
from ppap.utils.tensor_spec import of_published

if TYPE_CHECKING:
    from ppap.diffusion.settings import DiffusionConfig

Shape = tuple[int, int, int]
ImageSize = int | tuple[int, int]
"""The height and width of images, or one number for both."""

_LATENT = ("vae", "vqvae", "movq", "vqgan")
_SCHEDULER = "scheduler_config.json"


class UNet(nn.Module):
    """diffusers' U-Net, called as network(x_t, t); it returns its prediction, or that and the variance.

    Outside autocast, one of half precision is asked in its own. ConfigError for one that asks for a class.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        if getattr(unet, "class_embedding", None) is not None:
            how = {key: unet.config.get(key) for key in ("class_embed_type", "num_class_embeds")}
            key = next((f"{key}: {value}" for key, value in how.items() if value), "class_embedding")
            raise ConfigError(f"{key}: the U-Net asks for a class; only unconditional ones draw")
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        own = x if is_cast(x) else x.to(self.unet.dtype)
        return self.unet(own, t, return_dict=False)[0]


def called(network: nn.Module) -> nn.Module:
    """Return a U-Net of diffusers as `UNet`, any other network as it is; ConfigError for one that asks for a prompt."""
    kinds = {kind.__name__ for kind in type(network).__mro__}
    if "UNet2DConditionModel" in kinds:
        raise ConfigError(f"{type(network).__name__}: asks for a prompt's embedding; only UNet2DModel draws")
    return UNet(network) if "UNet2DModel" in kinds else network


class Pipeline(Source):
    """A pipeline's U-Net. What it is is known once it has been downloaded, from the metadata of the workflow's file."""

    download_reads = (
        *("dataset.image_size", "dataset.channels", "diffusion.noise_schedule"),
        *("diffusion.timesteps", "diffusion.variance", "diffusion.predicts", "diffusion.pipeline"),
    )
    has_architecture = False
    predicts_any = True
    knows_process = True

    def build(self, settings: DiffusionConfig, file: Path) -> nn.Module:
        return UNet(_made("UNet2DModel", _about(file)["unet"], file))

    def load(self, settings: DiffusionConfig, file: Path, how: Runtime) -> nn.Module:
        network = self.build(settings, file)
        network.load_state_dict(read_weights(file, of_published(network)))
        return hold_precision(network, how)

    def schedule(self, settings: DiffusionConfig, file: Path) -> Schedule:
        return self.process(settings, file).schedule

    def process(self, settings: DiffusionConfig, file: Path) -> Process:
        about = _about(file)["scheduler"]
        process = process_of(about, about["_class_name"], f"{file}: {_SCHEDULER}")
        check_process(process, settings)  # what is stated may have changed since the download
        return process

    def check(self, settings: DiffusionConfig, images: DatasetConfig, trial: Trial) -> None:
        """Check as in Source: a pipeline in a folder is there before any download."""
        if settings.pipeline is not None and Path(settings.pipeline).is_dir():
            _published(settings, images, Path())

    def download(
        self, settings: DiffusionConfig, images: DatasetConfig, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Download as in Source, from a folder or from the Hugging Face hub, which resumes and checks downloads."""
        assert settings.pipeline is not None
        published = _published(settings, images, downloads.folder / "huggingface")
        about = {k: v for k, v in published.network.unet.config.items() if not k.startswith("_")}
        source = hub.source_of(settings.pipeline, published.folder)
        said = {"unet": json.dumps(about), "scheduler": json.dumps(published.scheduler)}
        return published.weights(), source | said


def _about(file: Path) -> dict[str, Any]:
    """Read what the workflow's file says of its U-Net and scheduler; DataError if it says nothing."""
    metadata = files.read_metadata(file)
    if not {"unet", "scheduler"} <= metadata.keys():
        raise DataError(f"{file}: not made from a diffusers pipeline, or by an earlier version; download it again")
    return {part: json.loads(metadata[part]) for part in ("unet", "scheduler")}


class Published(NamedTuple):
    """A pipeline as it is published: its folder and its U-Net's, that without weights, its scheduler, and what this says."""

    folder: Path
    unet: Path
    network: UNet
    shape: Shape
    scheduler: dict[str, Any]
    process: Process

    @classmethod
    def read(cls, pipeline: str, cache: Path, image_size: ImageSize | None = None) -> Published:
        """Read a folder, or download one from the Hugging Face hub to `cache` first; its own size is that by default.

        ConfigError if it has no unconditional U-Net of pixels, or a scheduler that samplers here cannot honour;
        DataError if it cannot be had or read.
        """
        folder = hub.folder_of(pipeline, cache, ("*.json",), weights_in(["unet/", ""]), f"pipeline '{pipeline}'")
        index = folder / "model_index.json"
        parts = files.read_json(index) if index.is_file() else {}
        there = {part.name: "" for part in folder.iterdir() if part.is_dir()}
        check_parts(f"pipeline '{pipeline}'", there | {part: class_in(named) for part, named in parts.items()})
        place = _file(folder, "scheduler", _SCHEDULER)
        scheduler = files.read_json(place)
        scheduler["_class_name"] = class_in(parts.get("scheduler")) or scheduler.get("_class_name")
        process = process_of(scheduler, scheduler["_class_name"], str(place))
        config = _file(folder, "unet", "config.json")
        settings = files.read_json(config)
        if settings.get("_class_name") != "UNet2DModel":
            raise ConfigError(f"{config}: _class_name: {settings.get('_class_name')}; only UNet2DModel draws")
        network, shape = network_of(sized(settings, image_size), process, config)
        return cls(folder, config.parent, network, shape, scheduler, process)

    def weights(self) -> dict[str, Tensor]:
        """Read the U-Net's weights, by the names of `network`; DataError if they are others."""
        return UNet(read_network(type(self.network.unet), self.unet)).state_dict()


def check_parts(pipeline: str, parts: Mapping[str, str | None]) -> None:
    """Raise ConfigError if one of a pipeline's parts, each with the name of its class, or None, decodes latents."""
    for part, kind in parts.items():
        if kind is not None and (part in _LATENT or kind.startswith(("Autoencoder", "VQModel"))):
            raise ConfigError(f"{pipeline}: {part}: its U-Net draws latents; only U-Nets of pixels can be used")


def network_of(settings: Mapping[str, Any], process: Process, source: object) -> tuple[UNet, Shape]:
    """Make a U-Net of these settings without memory for its weights, and find the shape (C, H, W) of its images.

    ConfigError, naming `source` and the key, if it could not draw.
    """
    with torch.device("meta"):
        unet = _made("UNet2DModel", settings, source)
        try:
            network = UNet(unet)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
        size, channels, outputs = (unet.config[key] for key in ("sample_size", "in_channels", "out_channels"))
        sides = list(size) if isinstance(size, list | tuple) else [size, size]
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ConfigError(f"{source}: sample_size: {size}; one number or two were expected")
        wanted = channels * (2 if process.variance == "learned_range" else 1)
        if outputs != wanted:
            raise ConfigError(
                f"{source}: out_channels: {outputs} for in_channels: {channels}, whose variance_type is "
                f"{process.variance}; {wanted} were expected"
            )
        shape = (channels, sides[0], sides[1])
        try:
            unet(torch.zeros(1, *shape), torch.zeros(1))
        except Exception as error:  # of sizes that its resolutions do not divide
            raise ConfigError(f"{source}: sample_size: {size} is none that it can draw ({reason(error)})") from None
    return network, shape


def sized(settings: Mapping[str, Any], image_size: ImageSize | None) -> Mapping[str, Any]:
    """Return a U-Net's settings for images of this size; its own if it is None."""
    return settings if image_size is None else {**settings, "sample_size": image_size}


def read_index(pipeline: str, cache: Path) -> dict[str, Any]:
    """Read the model_index.json of a folder or, downloaded to `cache`, of the hub; nothing if it has none."""
    need("diffusers", "a pipeline", "diffusers")
    index = hub.folder_of(pipeline, cache, ("*.json",), [()], f"pipeline '{pipeline}'") / "model_index.json"
    return files.read_json(index) if index.is_file() else {}


def _file(folder: Path, part: str, name: str) -> Path:
    """Find a file of the U-Net or the scheduler, in a folder of their own or, of the oldest pipelines, beside one another."""
    for path in (folder / part / name, folder / name):
        if path.is_file():
            return path
    raise DataError(f"pipeline {folder} cannot be read: no {name}, nor in {part}/")


def _made(kind: str, settings: Mapping[str, Any], source: object) -> Any:
    """Make an object of this class of diffusers with these settings; DataError if it does not take them."""
    need("diffusers", "a pipeline", "diffusers")
    import diffusers

    plain = {name: value for name, value in settings.items() if not name.startswith("_")}
    try:
        return getattr(diffusers, kind).from_config(plain)
    except Exception as error:  # whatever a stranger's numbers lead to
        raise DataError(f"{source}: its settings make no {kind} ({reason(error)})") from error


def class_in(named: object) -> str | None:
    """Return the class that model_index.json names as [library, class]; None if it names none."""
    return named[1] if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str) else None


def _published(settings: DiffusionConfig, images: DatasetConfig, cache: Path) -> Published:
    """Read the preset's pipeline; ConfigError if its images or its scheduler are others than the preset's."""
    published = Published.read(str(settings.pipeline), cache)
    check_fit(published.shape, None, published.process, settings, images)
    return published


def check_fit(
    shape: Shape, autoencoder: Autoencoder | None, process: Process, settings: DiffusionConfig, images: DatasetConfig
) -> None:
    """Raise ConfigError unless a pipeline draws the preset's images, of this shape, by the schedule that this states."""
    channels, *sides = shape
    if autoencoder is None:
        if settings.latents is not None:
            raise ConfigError("diffusion.latents: the pipeline draws pixels; leave it out")
        for name, theirs, ours, key in (
            ("sample_size", sides, [images.image_size] * 2, "dataset.image_size"),
            ("in_channels", channels, images.channels, "dataset.channels"),
        ):
            if theirs != ours:
                raise ConfigError(f"{key}: the pipeline's {name} is {theirs}, the preset needs {ours}")
    else:
        if settings.latents is None or settings.latents.latent_shape(images.shape) != shape:
            wanted = f"{{channels: {channels}, factor: {images.image_size // sides[0]}}}"
            raise ConfigError(f"diffusion.latents: those of the pipeline are {wanted}")
        network: Any = autoencoder.network
        pictures = network.config.get("out_channels") or network.config.get("in_channels")
        if pictures != images.channels:
            raise ConfigError(f"dataset.channels: {images.channels}, but the pipeline's pictures have {pictures}")
    check_process(process, settings)


def check_process(process: Process, settings: DiffusionConfig) -> None:
    """Refuse a preset that states another schedule than the pipeline's, or not its number of timesteps."""
    betas, stated = process.schedule.betas, settings.model_fields_set
    theirs = {"timesteps": len(betas), "predicts": process.predicts, "variance": process.variance}
    for key, value in theirs.items():
        ours = getattr(settings, key)
        if ours != value and (key in stated or key == "timesteps"):
            raise ConfigError(f"diffusion.{key}: {ours}, but the pipeline's is {value}")
    name = settings.noise_schedule
    if "noise_schedule" in stated and not np.allclose(betas, named_betas(name, len(betas)), rtol=1e-3):
        raise ConfigError(f"diffusion.noise_schedule: {name}, but the pipeline's betas are others: leave the key out")
