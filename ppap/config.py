"""The one definition of a preset. The Snakefile, the command line and the JSON schema all use it."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ppap.errors import ConfigError
from ppap.noise_ranges import Allocation, noise_ranges
from ppap.schedules import SamplerKind, Schedule, ScheduleName, VarianceName

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="letters, digits and _")]
UNGUIDED = "unguided"


LIBRARIES = ("timm", "torchvision")


def _known_model(model: str) -> str:
    """Check LIBRARY:NAME without importing the library, which would take seconds."""
    library, _, name = model.partition(":")
    if library == "user" and "." in name:
        return model
    if library not in LIBRARIES:
        raise ValueError(f"'{model}': write timm:NAME, torchvision:NAME or user:MODULE.FUNCTION")
    package = importlib.util.find_spec(library)
    assert package is not None and package.origin is not None
    entry = re.compile(rf"^def {re.escape(name.partition('.')[0])}\(", re.MULTILINE)
    sources = (Path(package.origin).parent / "models").rglob("*.py")
    if not any(entry.search(source.read_text()) for source in sources):
        raise ValueError(f"{library} has no model '{name}'")
    return model


ModelName = Annotated[str, AfterValidator(_known_model)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(Section):
    """How the networks are run; nothing here changes what is computed, but for rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the networks' arithmetic (autocast); states stay float32"
    )
    channels_last: bool = Field(False, description="memory layout of the networks")
    compile: bool = Field(False, description="torch.compile the networks (needs a C++ compiler)")


class Training(Section):
    """One optimisation: AdamW with a warm-up and a decay to zero."""

    steps: PositiveInt = Field(description="optimiser steps; for experts the total of the row")
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = Field(1e-3, description="AdamW's, after the warm-up")
    weight_decay: NonNegativeFloat = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of the steps")
    decay: Literal["linear", "cosine", "none"] = Field("linear", description="to zero")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay of averaged weights")
    clip: NonNegativeFloat = Field(0.0, description="largest gradient norm; 0: no limit")
    shift: NonNegativeInt = Field(0, description="augmentation: largest shift in pixels")
    checkpoint_every: PositiveInt = Field(1000, description="steps between checkpoints")


class DatasetConfig(Section):
    """Real images: they train what the preset trains itself, the supervised rows, and are the reference."""

    kind: Literal["digits"] = Field("digits", description="UCI digits inside scikit-learn")
    image_size: PositiveInt = Field(8, description="pixels a side")
    channels: PositiveInt = 1
    classes: PositiveInt = 10
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share never trained on")
    mirror: bool = Field(False, description="mirroring an image keeps its class")
    class_names: tuple[str, ...] = Field((), description="for figures; empty: numbers")


class ADMArchitecture(Section):
    """Hyper-parameters of the U-Net. The defaults are those of the public 256x256 unconditional model."""

    in_channels: PositiveInt = Field(3, description="channels of an image")
    model_channels: PositiveInt = Field(256, description="channels at full resolution")
    channel_mult: tuple[PositiveInt, ...] = Field(
        (1, 1, 2, 2, 4, 4), description="channels of each resolution, times model_channels"
    )
    num_res_blocks: PositiveInt = Field(2, description="residual blocks per resolution")
    attention_factors: tuple[PositiveInt, ...] = Field(
        (8, 16, 32), description="downsampling factors with self-attention"
    )
    head_channels: PositiveInt = Field(64, description="channels of an attention head")
    norm_groups: PositiveInt = Field(32, description="groups of the group norms")
    learn_sigma: bool = Field(True, description="the network also predicts the variance")

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)


class DiffusionConfig(Section):
    """The unconditional diffusion model."""

    architecture: ADMArchitecture
    noise_schedule: ScheduleName = "linear"
    timesteps: PositiveInt = Field(1000, description="T of the training schedule")
    variance: VarianceName = Field("learned_range", description="of the reverse steps")
    train: Training = Field(description="how the workflow trains it")


class AdapterConfig(Section):
    """Which few parameters an expert trains. Patterns are shell patterns over parameter names."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = Field(8.0, description="the update is (alpha / rank) B A")
    layers: tuple[str, ...] = Field(description="convolutions and linear layers that get LoRA")
    train: tuple[str, ...] = Field(("*.bias",), description="parameters trained besides")
    freeze: tuple[str, ...] = Field(("fc.*", "head.*"), description="never trained")
    learning_rate: PositiveFloat | None = Field(
        None, description="of adapter training; the guide's experts.learning_rate if left out"
    )


class GuideConfig(Section):
    """An off-the-shelf model that guides, and how it is adapted to noise."""

    model: ModelName = Field(description="timm:NAME, torchvision:NAME or user:MODULE.FUNCTION")
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the model's class"
    )
    input_size: PositiveInt = Field(description="pixels a side the model sees; images are resized")
    mean: tuple[float, ...] = Field((0.5,), description="of its input normalisation, in [0, 1]")
    std: tuple[PositiveFloat, ...] = Field((0.5,), description="of its input normalisation")
    stands_for: str | None = Field(None, description="architecture in the paper's tables")
    adapter: AdapterConfig
    train: Training = Field(description="how the workflow trains the off-the-shelf model")
    experts: Training = Field(description="noise-aware training; steps are a row's total")


class EvaluatorConfig(Section):
    """An independent classifier; its features give FID, IS, precision and recall."""

    model: ModelName
    options: dict[str, Any] = Field(default_factory=dict)
    input_size: PositiveInt
    mean: tuple[float, ...] = (0.5,)
    std: tuple[PositiveFloat, ...] = (0.5,)
    train: Training
    neighbours: PositiveInt = Field(3, description="k of precision and recall")


class SamplerConfig(Section):
    kind: SamplerKind
    steps: PositiveInt = Field(description="sampling steps, out of T")
    eta: NonNegativeFloat = Field(0.0, description="noise of DDIM (0: none); DDPM's is 1")
    scale: NonNegativeFloat = Field(description="guidance scale, one for every method")


class MethodConfig(Section):
    """A row of the grid: what guides, who taught it, how many experts, what is trained."""

    guidance: Literal["none", "off_the_shelf", "x0_gradient", "experts"]
    supervision: Literal["labels", "teacher"] | None = Field(None, description="of the experts")
    experts: PositiveInt | None = Field(None, description="number of noise ranges")
    trainable: Literal["all", "adapter"] | None = None

    @model_validator(mode="after")
    def experts_are_complete(self) -> MethodConfig:
        given = [self.supervision, self.experts, self.trainable]
        if (self.guidance == "experts") != all(v is not None for v in given):
            raise ValueError(
                "supervision, experts and trainable belong to guidance: experts, all three"
            )
        return self


class ExpertsConfig(Section):
    """What all experts share."""

    allocation: Allocation = Field("uniform", description="how T is divided into ranges")
    warm_start: Literal["none", "sequential", "shared"] = Field(
        "shared", description="what an expert starts from"
    )
    warm_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of a row's steps that the shared start takes"
    )
    tau: PositiveFloat = Field(0.25, description="the teacher's temperature")
    reduction: Literal["sum", "reference"] = Field(
        "sum", description="over classes; reference: their mean, as in the authors' code"
    )


class CleanImagesConfig(Section):
    """The images that the diffusion model draws without guidance; teachers label them."""

    count: PositiveInt
    sampler: Name
    seed: NonNegativeInt = 1_000_000
    batch_size: PositiveInt = 250
    shard_size: PositiveInt = 1000


class SamplingConfig(Section):
    samples: PositiveInt = Field(description="images of one sampling seed")
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    batch_size: PositiveInt = 250
    shard_size: PositiveInt = Field(1000, description="images of one job")
    checkpoint_every: PositiveInt = Field(50, description="sampling steps between checkpoints")

    classes: tuple[NonNegativeInt, ...] | None = Field(
        None, description="target classes; all of the data set's if left out"
    )

    @property
    def total(self) -> int:
        return self.samples * len(self.seeds)


class Grid(Section):
    """Rows of a table: every guide x sampler x method."""

    guides: tuple[Name, ...] = Field(min_length=1)
    samplers: tuple[Name, ...] = Field(min_length=1)
    methods: tuple[Name, ...] = Field(min_length=1)


class FiguresConfig(Section):
    """What the figures show."""

    sampler: Name
    target_class: NonNegativeInt = Field(0, description="of the gradient maps")
    timesteps: tuple[NonNegativeInt, ...] = Field(
        (920, 720, 520, 320, 120),
        description="of the gradient maps; the nearest kept ones are shown",
    )
    samples: PositiveInt = Field(100, description="images behind the confidence curves")


class Config(Section):
    """A preset: everything that decides what is computed."""

    preset: Name
    seed: NonNegativeInt = Field(0, description="of all training")
    runtime: Runtime = Runtime()
    dataset: DatasetConfig = DatasetConfig()
    diffusion: DiffusionConfig
    guides: dict[Name, GuideConfig]
    evaluator: EvaluatorConfig
    experts: ExpertsConfig = ExpertsConfig()
    samplers: dict[Name, SamplerConfig]
    methods: dict[Name, MethodConfig]
    clean_images: CleanImagesConfig
    sampling: SamplingConfig
    tables: dict[Literal["main", "capacity", "data_free"], tuple[Grid, ...]]
    figures: FiguresConfig

    @model_validator(mode="after")
    def names_exist(self) -> Config:
        for table, grids in self.tables.items():
            for grid in grids:
                for kind, known in (
                    ("guides", self.guides),
                    ("samplers", self.samplers),
                    ("methods", self.methods),
                ):
                    for name in getattr(grid, kind):
                        if name not in known:
                            raise ValueError(f"tables.{table}: {kind} has no '{name}'")
        for key, sampler in (
            ("clean_images", self.clean_images.sampler),
            ("figures", self.figures.sampler),
        ):
            if sampler not in self.samplers:
                raise ValueError(f"{key}.sampler: samplers has no '{sampler}'")
        if UNGUIDED in self.guides:
            raise ValueError(f"guides: '{UNGUIDED}' is the name of the runs without a guide")
        return self

    @model_validator(mode="after")
    def steps_fit(self) -> Config:
        diffusion = self.diffusion
        for name, sampler in self.samplers.items():
            try:
                Schedule.respaced(
                    diffusion.noise_schedule, diffusion.timesteps, sampler.kind, sampler.steps
                )
            except ConfigError as error:
                raise ValueError(f"samplers.{name}.steps: {error}") from None
        for name, method in self.methods.items():
            try:
                self.ranges(method)
            except ConfigError as error:
                raise ValueError(f"methods.{name}.experts: {error}") from None
        return self

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The whole preset as plain values."""
        return self.model_dump(mode="json")

    @property
    def target_classes(self) -> list[int]:
        """The classes that guided runs aim at."""
        return list(self.sampling.classes or range(self.dataset.classes))

    @model_validator(mode="after")
    def networks_fit(self) -> Config:
        arch, data = self.diffusion.architecture, self.dataset
        if arch.in_channels != data.channels:
            raise ValueError(
                f"diffusion.architecture.in_channels: {arch.in_channels}, but dataset.channels is {data.channels}"
            )
        if arch.learn_sigma != (self.diffusion.variance == "learned_range"):
            raise ValueError(
                "diffusion.variance: learned_range goes with architecture.learn_sigma: true, only"
            )
        for key, wanted in (
            ("sampling.classes", self.sampling.classes or ()),
            ("figures.target_class", (self.figures.target_class,)),
        ):
            missing = [c for c in wanted if c >= data.classes]
            if missing:
                raise ValueError(
                    f"{key}: there is no class {missing[0]}; the classes are 0 to {data.classes - 1}"
                )
        factor = 2 ** (len(arch.channel_mult) - 1)
        if data.image_size % factor:
            raise ValueError(
                f"diffusion.architecture.channel_mult: {len(arch.channel_mult)} resolutions need an "
                f"image size that {factor} divides, not {data.image_size}"
            )
        return self

    def ranges(self, method: MethodConfig) -> list[range]:
        """The noise range of each of the method's experts, from the least noise to the most."""
        schedule = Schedule.create(self.diffusion.noise_schedule, self.diffusion.timesteps)
        return noise_ranges(schedule, method.experts or 1, self.experts.allocation)


def load(path: str | Path) -> Config:
    """Read and validate a preset file; ConfigError names the file and every wrong key."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return validate(data, path)


def validate(data: Any, source: str | Path) -> Config:
    """Check a preset that has been read already; `source` names it in errors."""
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: not a mapping of keys to values")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{source}: {_describe(e)}" for e in error.errors())) from None


def _describe(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def find(preset: str) -> Path:
    """The file of a preset given by name (config/NAME.yaml) or by path."""
    return Path(preset) if preset.endswith((".yaml", ".yml")) else Path("config", f"{preset}.yaml")


def json_schema() -> str:
    """The JSON schema of a preset, as written to workflow/schemas/config.schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"
