"""The diffusion model: its architecture and schedule, and the sources that it can come from."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator

from ppap.diffusion.schedules import ScheduleName, VarianceName
from ppap.preset.sections.base import Count, Section
from ppap.preset.sections.data import Download
from ppap.preset.sections.running import Training
from ppap.registry import Registry

Width = Annotated[int, Field(gt=0, le=1024)]


class ADMArchitecture(Section):
    """Hyper-parameters of the U-Net. The defaults are those of the public 256x256 unconditional model."""

    in_channels: Count = Field(3, description="channels of an image")
    model_channels: Annotated[int, Field(ge=2, le=65_536)] = Field(
        256, description="channels at full resolution"
    )
    channel_mult: tuple[Width, ...] = Field(
        (1, 1, 2, 2, 4, 4),
        min_length=1,
        max_length=12,
        description="channels of each resolution, times model_channels",
    )
    num_res_blocks: Annotated[int, Field(gt=0, le=100)] = Field(
        2, description="residual blocks per resolution"
    )
    attention_factors: tuple[Count, ...] = Field(
        (8, 16, 32), description="downsampling factors with self-attention"
    )
    head_channels: Count = Field(64, description="channels of an attention head")
    norm_groups: Count = Field(32, description="groups of the group norms")
    learn_sigma: bool = Field(True, description="the network also predicts the variance")

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    @model_validator(mode="after")
    def channels_divide(self) -> ADMArchitecture:
        widths = [self.model_channels * m for m in self.channel_mult]
        odd = [width for width in widths if width % self.norm_groups]
        if odd:
            raise ValueError(f"norm_groups: {self.norm_groups} does not divide {odd[0]} channels")
        factors = [2**level for level in range(len(widths))]
        unknown = [factor for factor in self.attention_factors if factor not in factors]
        if unknown:
            raise ValueError(
                f"attention_factors: {unknown[0]} is no resolution of the network; those are {factors}"
            )
        attended = [w for w, f in zip(widths, factors, strict=True) if f in self.attention_factors]
        odd = [width for width in (*attended, widths[-1]) if width % self.head_channels]
        if odd:
            raise ValueError(
                f"head_channels: {self.head_channels} does not divide {odd[0]} channels"
            )
        return self


@dataclass(frozen=True)
class Source:
    """Where a diffusion model comes from: facts about the key of `diffusion` that chooses it.

    `code` is MODULE:CLASS in ppap.networks.diffusion, a SourceCode, which builds and loads the network. `reads` are the leaf
    keys of a preset that this reads, `download_reads` those that a download reads besides; of each of the
    `downloads`, keys of `diffusion` that name files of somebody else, all leaf keys are read.
    """

    code: str
    reads: tuple[str, ...] = ()
    download_reads: tuple[str, ...] = ()
    downloads: tuple[str, ...] = ()
    has_architecture: bool = True
    "Whether the preset says how large the network is, under `architecture`."
    is_trained: bool = False
    "Whether the workflow trains it."


_ARCHITECTURE = tuple(f"diffusion.architecture.{leaf}" for leaf in ADMArchitecture.model_fields)
SOURCES = Registry(
    "source of the diffusion model",
    {
        "train": Source("adm_source:TrainedADM", reads=_ARCHITECTURE, is_trained=True),
        "weights": Source("adm_source:PublishedADM", reads=_ARCHITECTURE, downloads=("weights",)),
        "pipeline": Source(
            "diffusers_source:Pipeline",
            download_reads=(
                *("dataset.image_size", "dataset.channels", "diffusion.noise_schedule"),
                *("diffusion.timesteps", "diffusion.variance", "diffusion.pipeline"),
            ),
            has_architecture=False,
        ),
    },
)


class DiffusionConfig(Section):
    """The unconditional diffusion model. The one key given of `SOURCES` says where it comes from."""

    architecture: ADMArchitecture | None = Field(
        None, description="of the ADM U-Net; a pipeline brings its own"
    )
    noise_schedule: ScheduleName = "linear"
    timesteps: Annotated[int, Field(gt=0, le=10_000)] = Field(
        1000, description="T of the training schedule"
    )
    variance: VarianceName = Field("learned_range", description="of the reverse steps")
    train: Training | None = Field(None, description="how the workflow trains it")
    weights: Download | None = Field(None, description="a checkpoint in the public ADM format")
    pipeline: str | None = Field(
        None, description="a diffusers pipeline: a name on the Hugging Face hub, or a folder"
    )
    _source: str = PrivateAttr("")

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return SOURCES.get(self._source)

    @property
    def training(self) -> Training | None:
        """How the workflow trains it; None if it comes from elsewhere."""
        return getattr(self, self._source) if self.source.is_trained else None

    @property
    def downloads(self) -> dict[str, Download]:
        """The files of somebody else that it is made of, by their keys."""
        return {key: attrgetter(key)(self) for key in self.source.downloads}

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
        if self.training and self.architecture and self.architecture.learn_sigma:
            raise ValueError("train: learns no variance; set architecture.learn_sigma: false")
        return self
