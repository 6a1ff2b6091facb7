"""A preset as a whole: its sections, and that they fit one another."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from ppap.config.base import CLASSIFIER, DIFFUSION, EVALUATOR, RESERVED, Name, Section
from ppap.config.data import DatasetConfig
from ppap.config.experiment import (
    CleanImagesConfig,
    ExpertsConfig,
    FiguresConfig,
    Grid,
    MethodConfig,
    SamplerConfig,
    SamplingConfig,
)
from ppap.config.networks import (
    DiffusionConfig,
    EvaluatorConfig,
    GuideConfig,
    InceptionEvaluator,
    NetworkConfig,
)
from ppap.config.running import Resources, Runtime, Training
from ppap.errors import ConfigError
from ppap.noise_ranges import noise_ranges
from ppap.schedules import Schedule


class Config(Section):
    """A preset: everything that decides what is computed."""

    preset: Name
    seed: NonNegativeInt = Field(0, description="of all training")
    supervised: bool = Field(
        True, description="compute the rows that labels teach; false: no data set is needed"
    )
    runtime: Runtime = Runtime()
    resources: Resources = Resources()
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
        for name in RESERVED:
            if name in self.guides:
                raise ValueError(f"guides: '{name}' is the name of something else; choose another")
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

    @model_validator(mode="after")
    def networks_fit(self) -> Config:
        arch, data = self.diffusion.architecture, self.dataset
        if isinstance(self.evaluator, InceptionEvaluator) and data.channels != 3:
            raise ValueError(f"evaluator.kind: inception sees 3 channels, not {data.channels}")
        if arch is None:
            return self
        if arch.in_channels != data.channels:
            raise ValueError(
                f"diffusion.architecture.in_channels: {arch.in_channels}, but dataset.channels is {data.channels}"
            )
        if arch.learn_sigma != (self.diffusion.variance == "learned_range"):
            raise ValueError(
                "diffusion.variance: learned_range goes with architecture.learn_sigma: true, only"
            )
        factor = 2 ** (len(arch.channel_mult) - 1)
        if data.image_size % factor:
            raise ValueError(
                f"diffusion.architecture.channel_mult: {len(arch.channel_mult)} resolutions need an "
                f"image size that {factor} divides, not {data.image_size}"
            )
        return self

    @model_validator(mode="after")
    def classes_exist(self) -> Config:
        for key, wanted in (
            ("sampling.classes", self.sampling.classes or ()),
            ("figures.target_class", (self.figures.target_class,)),
        ):
            missing = [c for c in wanted if c >= self.dataset.classes]
            if missing:
                raise ValueError(
                    f"{key}: there is no class {missing[0]}; the classes are 0 to {self.dataset.classes - 1}"
                )
        return self

    @model_validator(mode="after")
    def what_is_trained_has_images(self) -> Config:
        names = (DIFFUSION, EVALUATOR, CLASSIFIER, *self.guides)
        trained = [name for name in names if self.training(name) is not None]
        if trained and self.dataset.kind == "image_folder":
            raise ValueError(
                f"{self.key(trained[0])}.train: a folder of images only teaches experts"
            )
        return self

    @property
    def target_classes(self) -> list[int]:
        """The classes that guided runs aim at."""
        return list(self.sampling.classes or range(self.dataset.classes))

    def key(self, model: str) -> str:
        """Where the preset speaks of a model: diffusion, evaluator, evaluator.classifier or guides.NAME."""
        if model == CLASSIFIER:
            return f"{EVALUATOR}.{CLASSIFIER}"
        return model if model in (DIFFUSION, EVALUATOR) else f"guides.{model}"

    def network(self, model: str) -> NetworkConfig | None:
        """A classifier of the preset: a guide, the evaluator, or the evaluator's classifier."""
        judge = self.evaluator
        if model == EVALUATOR:
            return judge if isinstance(judge, NetworkConfig) else None
        if model == CLASSIFIER:
            return judge.classifier if isinstance(judge, InceptionEvaluator) else None
        return self.guides.get(model)

    def training(self, model: str) -> Training | None:
        """How the workflow trains a model; None if its weights come from elsewhere."""
        if model == DIFFUSION:
            return self.diffusion.train
        spec = self.network(model)
        return spec.train if spec else None

    def computed(self, method: str) -> bool:
        """Whether the method's rows are computed; those left out stay empty in the tables."""
        return self.supervised or self.methods[method].supervision != "labels"

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The whole preset as plain values, but for what differs from site to site."""
        return self.model_dump(mode="json", exclude={"dataset": {"path"}})

    def ranges(self, method: MethodConfig) -> list[range]:
        """The noise range of each of the method's experts, from the least noise to the most."""
        schedule = Schedule.create(self.diffusion.noise_schedule, self.diffusion.timesteps)
        return noise_ranges(schedule, method.experts or 1, self.experts.allocation)
