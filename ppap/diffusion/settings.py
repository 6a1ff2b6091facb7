"""Settings of the diffusion model: its schedule, its latents, and the registry of sources that it can come from."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Annotated, Any, cast

from pydantic import Field, PrivateAttr, model_validator
from torch import nn

from ppap.data.settings import Download
from ppap.diffusion.networks.adm_source import PublishedADM, TrainedADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.glide_settings import GlideConfig, UpsamplingConfig
from ppap.diffusion.networks.glide_source import PublishedGLIDE
from ppap.diffusion.networks.preset_pipeline import PresetPipeline
from ppap.diffusion.networks.sources import Source
from ppap.diffusion.schedules import PredictionName, Schedule, ScheduleName, Spacing, VarianceName
from ppap.training.settings import Training
from ppap.utils.errors import ConfigError, need, reason
from ppap.utils.registry import Registry
from ppap.utils.settings import Count, HubOrFolder, Section

SOURCES: Registry[Source] = Registry(
    "source of the diffusion model",
    {"train": TrainedADM(), "weights": PublishedADM(), "pipeline": PresetPipeline(), "glide": PublishedGLIDE()},
)


Shape = tuple[int, int, int]


class LatentsConfig(Section):
    """The latents that a pipeline draws, which its own autoencoder decodes to pictures.

    They are held against the pipeline. All networks but the diffusion model, and experts with their view of latents, see
    decoded pictures.
    """

    channels: Count = Field(4, description="channels of a latent")
    factor: Count = Field(8, description="how many times smaller its sides are than those of the picture")

    def latent_shape(self, picture: Shape) -> Shape:
        """Return the shape (c, h, w) of the latent of a picture (C, H, W)."""
        return self.channels, picture[1] // self.factor, picture[2] // self.factor


class AutoencoderConfig(Section):
    """The autoencoder of a latent diffusion model, an AutoencoderKL of diffusers (`pip install 'ppap[diffusers]'`).

    Its latents are scaled and shifted to mean 0 and variance 1. All networks but the diffusion model, and experts with
    their view of latents, see decoded pictures.
    """

    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of AutoencoderKL, but for channels of pictures"
    )
    kl_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1e-4, description="of the latents' divergence from a standard normal distribution, beside the absolute error"
    )
    train: Training = Field(description="how the workflow trains it")

    @model_validator(mode="after")
    def channels_are_the_pictures(self) -> AutoencoderConfig:
        ours = {"in_channels", "out_channels", "scaling_factor", "shift_factor"} & self.options.keys()
        if ours:
            raise ValueError(f"options.{min(ours)}: follows from the rest of the preset; leave it out")
        return self

    def latent_shape(self, picture: Shape) -> Shape:
        """Return the shape (c, h, w) of the latent of a picture (C, H, W)."""
        factor = 2 ** (len(self.options.get("block_out_channels", (64,))) - 1)
        return self.options.get("latent_channels", 4), picture[1] // factor, picture[2] // factor

    def build(self, channels: int) -> nn.Module:
        """Build the network, untrained; ConfigError if there is none with these options, or diffusers is missing."""
        need("diffusers", "diffusion.autoencoder", "diffusers")
        from diffusers import AutoencoderKL

        try:
            network = AutoencoderKL(in_channels=channels, out_channels=channels, **self.options)
        except Exception as error:  # of a library's code
            raise ConfigError(f"diffusion.autoencoder.options: make no AutoencoderKL ({reason(error)})") from error
        return cast(nn.Module, network)


class DiffusionConfig(Section):
    """The unconditional diffusion model. It comes from one of `train`, `weights`, `pipeline` and `glide`."""

    architecture: ADMArchitecture | None = Field(
        None, description="the ADM U-Net's; a pipeline and GLIDE bring their own"
    )
    autoencoder: AutoencoderConfig | None = Field(
        None, description="the images of the diffusion model are its latents; with `train`"
    )
    latents: LatentsConfig | None = Field(
        None, description="the images of a `pipeline` with an autoencoder, such as Stable Diffusion's, are latents"
    )
    noise_schedule: ScheduleName = Field(
        "linear",
        description="how noise grows with t; GLIDE's is `cosine`. `flow`: (1 - sigma) x_0 + sigma eps, where sigma = "
        "(t + 1) / T; with `train` the network predicts its velocity",
    )
    timesteps: Annotated[int, Field(gt=0, le=10_000)] = Field(1000, description="T of the training schedule")
    rescale_timesteps: bool = Field(
        False, description="the ADM U-Net was trained to see t · 1000 / T, which matters where T is not 1000"
    )
    variance: VarianceName = Field(
        "learned_range", description="of the reverse steps; `fixed_small` or `fixed_large` without `learn_sigma`"
    )
    predicts: PredictionName = Field(
        "eps",
        description="what the network predicts: the noise `eps`, the clean image `x0`, or `v` (`weights` and "
        "`pipeline`; all others predict eps)",
    )
    train: Training | None = Field(None, description="how the workflow trains it")
    weights: Download | None = Field(None, description="a checkpoint in the public ADM format, float16 or float32")
    pipeline: HubOrFolder | None = Field(
        None,
        description="a diffusers pipeline: a name on the Hugging Face hub (NAME, or NAME@REVISION), or a folder "
        "(`pip install 'ppap[diffusers]'`), unconditional or of the classes that `ppap.load_pipeline` takes; those with "
        "prompts need `prompts` of `clean_images` and `sampling`. What its scheduler says is honoured: `noise_schedule`, `variance` and `predicts` "
        "need not be stated, and `timesteps` only where they are not 1000; a value that differs is refused",
    )
    glide: GlideConfig | None = Field(None, description="GLIDE's public checkpoints")
    _source: str = PrivateAttr("")

    @property
    def source(self) -> Source:
        """The source of the diffusion model."""
        return SOURCES.get(self._source)

    @property
    def latent_space(self) -> AutoencoderConfig | LatentsConfig | None:
        """The section that says the shape of the latents that are drawn; None where pixels are."""
        return self.autoencoder or self.latents

    @property
    def schedule_name(self) -> str:
        """The noise schedule as experts' headers name it."""
        return "the pipeline's" if self.source.knows_process else self.noise_schedule

    @property
    def stated_schedule(self) -> Schedule:
        """The full schedule as far as the preset states it; a pipeline's own is known once it is downloaded."""
        full = Schedule.create(self.noise_schedule, self.timesteps)
        return replace(full, spacing=Spacing()) if self.source.knows_process else full

    @property
    def training(self) -> Training | None:
        """The settings of its training by the workflow; None if it comes from elsewhere."""
        return getattr(self, self._source) if self.source.is_trained else None

    @property
    def downloads(self) -> dict[str, Download]:
        """The files of somebody else that it is made of, by their keys."""
        named = {key: attrgetter(key)(self) for key in self.source.downloads}
        return {key: file for key, file in named.items() if file is not None}

    @property
    def upsampling(self) -> UpsamplingConfig | None:
        """The settings of a cascade's second stage; None if there is none."""
        key = self.source.upsampling
        return attrgetter(key)(self) if key else None

    @property
    def unets(self) -> dict[str, tuple[ADMArchitecture, int | None]]:
        """The U-Nets that are built here, by their keys: architecture, and image size if not the data set's."""
        if self.glide:
            return {
                "glide.base_architecture": (self.glide.base_architecture, None),
                "glide.upsampler_architecture": (self.glide.upsampler_architecture, self.glide.upsampling.image_size),
            }
        return {"architecture": (self.architecture, None)} if self.architecture else {}

    @model_validator(mode="after")
    def one_source_is_given(self) -> DiffusionConfig:
        given = [key for key in SOURCES if getattr(self, key) is not None]
        if len(given) != 1:
            *others, last = SOURCES
            raise ValueError(f"give one of {', '.join(others)} and {last}")
        self._source = given[0]
        if self.source.has_architecture != (self.architecture is not None):
            wanted = "needs an" if self.source.has_architecture else "brings its own"
            raise ValueError(f"{self._source}: {wanted} `architecture`")
        if self.rescale_timesteps and not self.architecture:
            raise ValueError(f"rescale_timesteps: with {self._source} the network sees t")
        if self.predicts != "eps" and not self.source.predicts_any:
            raise ValueError(f"predicts: with {self._source} the network predicts eps")
        if self.autoencoder and not self.train:
            raise ValueError(f"autoencoder: with {self._source} there is none")
        if self.latents and not self.pipeline:
            raise ValueError(f"latents: are a pipeline's; with {self._source} there are none")
        if self.noise_schedule == "flow" and not self.train and self.predicts == "eps":
            raise ValueError("predicts: eps tells nothing of a flow's pure noise; `flow`, `v` and `x0` do")
        if self.training and self.architecture and self.architecture.learn_sigma:
            raise ValueError("train: learns no variance; set architecture.learn_sigma: false")
        return self
