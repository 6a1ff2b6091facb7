"""The diffusion model, the guides and the evaluator: what they are, and where their weights come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveFloat, Tag, model_validator

from ppap.diffusion.schedules import ScheduleName, VarianceName
from ppap.preset.base import Count, ModelName, Section
from ppap.preset.data import Download, ReferenceConfig
from ppap.preset.running import Training

Width = Annotated[int, Field(gt=0, le=1024)]
# For pixels in [0, 1]; beyond these bounds single precision makes nothing or infinity of an image.
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=0.001, le=1000)]
# Arguments that are ours: images, classes and weights are what the preset says elsewhere.
OURS = (
    *("in_chans", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("checkpoint_path", "cache_dir", "features_only", "weights", "weights_backbone", "progress"),
)


_LARGEST_OPTION = 1_000_000  # libraries make lists as long as they are told


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


class DiffusionConfig(Section):
    """The unconditional diffusion model: trained here, a public ADM checkpoint, or a diffusers pipeline."""

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

    @model_validator(mode="after")
    def one_source_is_given(self) -> DiffusionConfig:
        if sum(v is not None for v in (self.train, self.weights, self.pipeline)) != 1:
            raise ValueError("give one of train, weights and pipeline")
        if (self.architecture is None) != (self.pipeline is not None):
            raise ValueError("`architecture` belongs to train and to weights, never to pipeline")
        if self.train and self.architecture and self.architecture.learn_sigma:
            raise ValueError("train: learns no variance; set architecture.learn_sigma: false")
        return self


class AdapterConfig(Section):
    """Which few parameters an expert trains. Patterns are shell patterns over parameter names."""

    rank: Count = 16
    alpha: PositiveFloat = Field(8.0, description="the update is (alpha / rank) B A")
    layers: tuple[str, ...] = Field(description="convolutions and linear layers that get LoRA")
    train: tuple[str, ...] = Field(("*.bias",), description="parameters trained besides")
    freeze: tuple[str, ...] = Field(
        ("fc.*", "head*", "classifier.*"), description="never trained; by default the heads"
    )
    learning_rate: PositiveFloat | None = Field(
        None, description="of adapter training; the guide's experts.learning_rate if left out"
    )


def _numbers(values: Any) -> Iterator[int]:
    """All whole numbers in the arguments of a model."""
    if isinstance(values, int):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _numbers(value)


class NetworkConfig(Section):
    """A vision model by name. Without `train` it has its library's weights."""

    model: ModelName = Field(
        description="timm:NAME, torchvision:NAME/WEIGHTS or user:MODULE.FUNCTION"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the model's class"
    )
    input_size: Annotated[int, Field(gt=0, le=4096)] | None = Field(
        None,
        description="pixels a side the model sees; images are resized. Library weights bring theirs",
    )
    mean: tuple[Mean, ...] | None = Field(
        None,
        min_length=1,
        description="of its input normalisation, in [0, 1]; left out: the weights' own, or 0.5",
    )
    std: tuple[Deviation, ...] | None = Field(
        None,
        min_length=1,
        description="of its input normalisation, in [0, 1]; left out: the weights' own, or 0.5",
    )
    channels_last: bool = Field(
        False, description="memory layout, as runtime.channels_last, of this network alone"
    )
    train: Training | None = Field(
        None, description="how the workflow trains it on real images; left out: library weights"
    )
    weights: Download | None = Field(
        None, description="a file in the library's format to take instead of the library's own"
    )

    @model_validator(mode="after")
    def weights_have_a_source(self) -> NetworkConfig:
        if self.weights and (self.train or self.model.startswith("user:")):
            raise ValueError("weights: only for a model of a library that is not trained here")
        own = self.train is not None or self.model.startswith("user:")
        if own and self.input_size is None:
            raise ValueError("input_size: a model without library weights needs it")
        ours = [key for key in self.options if key in OURS and not self.model.startswith("user:")]
        if ours:
            raise ValueError(
                f"options.{ours[0]}: follows from the rest of the preset; leave it out"
            )
        large = [value for value in _numbers(self.options) if abs(value) > _LARGEST_OPTION]
        if large:
            raise ValueError(f"options: {large[0]} is more than any network has of anything")
        return self


class GuideConfig(NetworkConfig):
    """An off-the-shelf model that guides, and how it is adapted to noise."""

    stands_for: str | None = Field(None, description="architecture in the paper's tables")
    adapter: AdapterConfig
    experts: Training = Field(description="noise-aware training; steps are a row's total")


class ClassifierEvaluator(NetworkConfig):
    """An independent classifier; its features give FID, IS, precision and recall."""

    kind: Literal["classifier"] = "classifier"
    neighbours: Count = Field(3, description="k of precision and recall")


class InceptionEvaluator(Section):
    """torch-fidelity's Inception v3 of the original FID, for RGB images."""

    kind: Literal["inception"]
    weights: Download = Field(description="torch-fidelity's weights file")
    reference: ReferenceConfig
    classifier: NetworkConfig | None = Field(
        None, description="sees the target class or not; left out: that column stays empty"
    )
    neighbours: Count = Field(3, description="k of precision and recall")


TAG = "kind="


def _kind(evaluator: Any) -> str:
    if isinstance(evaluator, dict):
        kind = evaluator.get("kind")
    else:
        kind = getattr(evaluator, "kind", None)
    return f"{TAG}{kind or 'classifier'}"


EvaluatorConfig = Annotated[
    Annotated[ClassifierEvaluator, Tag(f"{TAG}classifier")]
    | Annotated[InceptionEvaluator, Tag(f"{TAG}inception")],
    Discriminator(_kind),
]
