"""A preset as a whole: its sections, and that they fit one another."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from ppap.config.consistency import problems
from ppap.config.sections.experiment import (
    CleanImagesConfig,
    FiguresConfig,
    Grid,
    MethodConfig,
    SamplerConfig,
    SamplingConfig,
)
from ppap.config.sections.networks import GuideConfig, JudgeConfig
from ppap.config.sections.running import Resources
from ppap.data.settings import DatasetConfig
from ppap.diffusion.guidance import GUIDANCE, Guidance
from ppap.diffusion.noise_ranges import noise_ranges
from ppap.diffusion.samplers import SAMPLERS, Sampler, respaced
from ppap.diffusion.schedules import Schedule
from ppap.diffusion.settings import DiffusionConfig
from ppap.evaluation.evaluators import EvaluatorConfig
from ppap.experts.settings import ExpertsConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.tasks.registry import TASKS
from ppap.guides.tasks.task import Task
from ppap.training.settings import Training
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.settings import (
    CLASSIFICATION,
    CLASSIFIER,
    DIFFUSION,
    EVALUATOR,
    Name,
    Section,
    Seed,
)

FOLDER = "folder"
"""Where a preset's file lies, in the context of its validation; the working folder if it is not given."""


class Preset(Section):
    """A preset: everything that decides what is computed."""

    preset: Name
    modules: tuple[str, ...] = Field(
        (),
        description="folders of what is named user:MODULE.NAME, seen from the preset's own, which is always one",
    )
    seed: Seed = Field(0, description="of all training")
    supervised: bool = Field(
        True, description="compute the rows that labels teach; false: no data set is needed"
    )
    runtime: Runtime = Runtime()
    resources: Resources = Resources()
    dataset: DatasetConfig = DatasetConfig()
    diffusion: DiffusionConfig
    guides: dict[Name, GuideConfig]
    evaluator: EvaluatorConfig
    judges: dict[Name, JudgeConfig] = Field(
        default_factory=dict, description="of tasks beyond classes, which the evaluator judges"
    )
    experts: ExpertsConfig = ExpertsConfig()
    samplers: dict[Name, SamplerConfig]
    methods: dict[Name, MethodConfig]
    clean_images: CleanImagesConfig
    sampling: SamplingConfig
    tables: dict[
        Literal["main", "capacity", "data_free", "scales"],
        Annotated[tuple[Grid, ...], Field(min_length=1)],
    ]
    figures: FiguresConfig
    _folder: Path = PrivateAttr(Path())

    @field_validator("tables")
    @classmethod
    def main_is_there(cls, tables: dict[str, tuple[Grid, ...]]) -> dict[str, tuple[Grid, ...]]:
        if "main" not in tables:
            raise ValueError("lack the table `main`, which the figures draw")
        return tables

    @model_validator(mode="after")
    def sections_fit(self, info: ValidationInfo) -> Preset:
        self._folder = ((info.context or {}).get(FOLDER) or Path()).absolute()
        found = problems(self)
        if found:
            raise ValueError("\n".join(found))
        return self

    @property
    def name(self) -> str:
        return self.preset

    @property
    def folder(self) -> Path:
        """Where the preset's file lies."""
        return self._folder

    @property
    def module_folders(self) -> list[Path]:
        """Where modules of the user's own may lie: beside the preset, and where it says."""
        return [self._folder, *(self._folder / folder for folder in self.modules)]

    def guidance(self, method: str) -> type[Guidance]:
        """Return the kind of guidance of a method; ConfigError if it is of the user's own and cannot be used."""
        return GUIDANCE.get(self.methods[method].guidance, self.module_folders)

    def sampler(self, name: str) -> Sampler:
        """Return a sampler; ConfigError if it is of the user's own and cannot be used."""
        return SAMPLERS.get(self.samplers[name].kind, self.module_folders)

    def drawing(self, sampler: str) -> dict[str, Any]:
        """Return what `ppap.sample` is told of a sampler: the function, its steps, and its noise."""
        function, spec = self.sampler(sampler), self.samplers[sampler]
        eta = spec.eta if function.eta is None else function.eta
        return {"sampler": function, "steps": spec.steps, "eta": eta}

    def prompted(self, prompt: str) -> Preset:
        """The preset with another prompt; ConfigError if its diffusion model takes none."""
        glide = self.diffusion.glide
        if glide is None:
            raise ConfigError(f"{self.name}: its diffusion model takes no prompt")
        told = glide.model_copy(update={"prompt": prompt})
        return self.model_copy(
            update={"diffusion": self.diffusion.model_copy(update={"glide": told})}
        )

    def scale(self, sampler: str, guide: str) -> float:
        """The guidance scale of a guide's runs with a sampler."""
        own = self.guides[guide].scales
        return own[sampler] if sampler in own else self.samplers[sampler].scale

    def task_name(self, model: str) -> str:
        """The task of a guide or a judge; all other networks classify."""
        spec = self.guides.get(model) or self.judges.get(model)
        return spec.task if spec else CLASSIFICATION

    def task(self, model: str) -> type[Task]:
        """Look up the class of that task; ConfigError if it is of the user's own and is none."""
        return TASKS.get(self.task_name(model), self.module_folders)

    def judge(self, guide: str) -> str | None:
        """The judge of a guide's samples; None if there is none, or the evaluator judges them, which is so of classes."""
        if not self.task(guide).of_pictures:
            return None
        task = self.task_name(guide)
        found = [name for name, spec in self.judges.items() if spec.task == task]
        return found[0] if found else None

    def schedule(self, sampler: str) -> Schedule:
        """Return the noise schedule of the timesteps that a sampler takes."""
        full = Schedule.create(self.diffusion.noise_schedule, self.diffusion.timesteps)
        return respaced(full, self.sampler(sampler), self.samplers[sampler].steps)

    @property
    def finished_shape(self) -> tuple[int, int, int]:
        """Of a finished image as networks see it: larger than x_t's in a cascade, whose second stage draws it."""
        upsampling = self.diffusion.upsampling
        if upsampling is None:
            return self.dataset.shape
        return self.dataset.channels, upsampling.image_size, upsampling.image_size

    @property
    def target_classes(self) -> list[int]:
        """The classes that guided runs aim at."""
        return list(self.sampling.classes or range(self.dataset.classes))

    def key(self, model: str) -> str:
        """Where the preset speaks of a model: diffusion, evaluator, evaluator.classifier, judges.NAME or guides.NAME."""
        if model == CLASSIFIER:
            return f"{EVALUATOR}.{CLASSIFIER}"
        if model in (DIFFUSION, EVALUATOR):
            return model
        return f"judges.{model}" if model in self.judges else f"guides.{model}"

    def network(self, model: str) -> NetworkConfig | None:
        """A vision model of the preset: a guide, a judge, the evaluator, or the evaluator's classifier."""
        found = self.evaluator.networks.get(model) or self.judges.get(model)
        return found or self.guides.get(model)

    def training(self, model: str) -> Training | None:
        """How the workflow trains a model; None if its weights come from elsewhere."""
        if model == DIFFUSION:
            return self.diffusion.training
        spec = self.network(model)
        return spec.train if spec else None

    def computed(self, method: str) -> bool:
        """Whether the method's rows are computed; those left out stay empty in the tables."""
        return self.supervised or self.methods[method].supervision != "labels"

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The whole preset as plain values, but for what differs from site to site."""
        return self.model_dump(mode="json", exclude={"dataset": {"path"}, "modules": True})

    def ranges(self, method: MethodConfig) -> list[range]:
        """The noise range of each of the method's experts, from the least noise to the most."""
        schedule = Schedule.create(self.diffusion.noise_schedule, self.diffusion.timesteps)
        return noise_ranges(schedule, method.experts or 1, self.experts.allocation)
