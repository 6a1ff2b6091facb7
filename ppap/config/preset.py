"""A preset as a whole: its sections, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator
from torch import Tensor

from ppap.config.rows import OF_EXPERTS, Grid, MethodConfig, SamplerConfig
from ppap.config.sections import CleanImagesConfig, FiguresConfig, GuideConfig, JudgeConfig, Resources, SamplingConfig
from ppap.data.datasets import DatasetConfig
from ppap.data.settings import Download
from ppap.diffusion.goals import OBJECTIVES
from ppap.diffusion.guidance import Guidance
from ppap.diffusion.guidance_kinds import GUIDANCE
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
    AUTOENCODER,
    CLASSIFICATION,
    CLASSIFIER,
    DIFFUSION,
    EVALUATOR,
    FOLDER,
    FREE,
    Name,
    Section,
    Seed,
    each_once,
    named_errors,
)

SectionT = TypeVar("SectionT", bound=Section)


class Preset(Section):
    """A preset is everything that decides what is computed."""

    preset: Name = Field(json_schema_extra=FREE, description="its name: results lie in `results/PRESET/`")
    modules: tuple[str, ...] = Field(
        (),
        json_schema_extra=FREE,
        description="folders with code of your own (`user:MODULE.NAME`), seen from the preset's folder, which is always "
        "one of them",
    )
    seed: Seed = Field(0, description="seed of all training")
    replicates: tuple[Seed, ...] = Field(
        (),
        description="training seeds, `seed` among them, each of which the whole run is repeated with, from training to "
        "metrics; results of the others lie in `results/PRESET/replicates/SEED/`, tables with error bars of all in "
        "`results/PRESET/study/`; left out: no repetition",
    )
    supervised: bool = Field(
        True,
        description="`false`: rows taught by labels are not computed, their cells stay empty, and no data set is needed",
    )
    runtime: Runtime = Field(Runtime(), json_schema_extra=FREE, description="how networks run")
    resources: Resources = Field(
        Resources(), json_schema_extra=FREE, description="what jobs ask of the machine, by step"
    )
    dataset: DatasetConfig = Field(DatasetConfig(), description="real images")
    diffusion: DiffusionConfig = Field(description="the unconditional diffusion model")
    guides: dict[Name, GuideConfig] = Field(description="off-the-shelf models, by a name of your choice")
    evaluator: EvaluatorConfig = Field(description="the independent judge: of images as such, and of classes")
    judges: dict[Name, JudgeConfig] = Field(
        default_factory=dict, description="independent networks that judge other tasks, by a name of your choice"
    )
    experts: ExpertsConfig = Field(ExpertsConfig(), description="what all noise-aware experts share")
    samplers: dict[Name, SamplerConfig] = Field(description="by a name of your choice")
    methods: dict[Name, MethodConfig] = Field(description="the rows of the grid, by name")
    clean_images: CleanImagesConfig = Field(description="what the diffusion model draws for the teachers")
    sampling: SamplingConfig = Field(description="how many samples a run has")
    tables: dict[Name, Annotated[tuple[Grid, ...], Field(min_length=1)]] = Field(
        description="which rows each table has, a list of grids each. The paper's are `main`, which must be there, `capacity` "
        "and `data_free`; `scales` and `calibration` have figures; others have a name of your choice, which is their title"
    )
    figures: FiguresConfig = Field(description="what the figures show")
    _folder: Path = PrivateAttr(Path())

    @field_validator("replicates")
    @classmethod
    def replicates_are_several(cls, numbers: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        each_once(numbers)
        seed = info.data.get("seed")
        if numbers and (seed not in numbers or len(numbers) < 2):
            raise ValueError(f"give two or more, `seed` ({seed}) among them")
        return numbers

    @field_validator("methods")
    @classmethod
    def experts_are_shared(cls, methods: dict[str, MethodConfig]) -> dict[str, MethodConfig]:
        """Complete methods with `experts_of` by what the preset says of those experts."""
        for name, method in methods.items():
            if other := methods.get(method.experts_of or ""):
                shared = {key: getattr(other, key) for key in OF_EXPERTS if key not in method.model_fields_set}
                methods[name] = method.model_copy(update=shared)
        return methods

    def model_post_init(self, context: Any) -> None:
        self._folder = ((context or {}).get(FOLDER) or Path()).absolute()

    @property
    def name(self) -> str:
        return self.preset

    @property
    def original(self) -> str:
        """The name of the preset that this one is a replicate of (`ppap.config.replicates`); else its own."""
        return self.name.partition("/")[0]

    @property
    def is_replicate(self) -> bool:
        return self.name != self.original

    @property
    def folder(self) -> Path:
        """The folder of the preset's file."""
        return self._folder

    @cached_property
    def module_folders(self) -> list[Path]:
        """The folders for modules of the user's own: the preset's, and those that it lists."""
        return [self._folder, *(self._folder / folder for folder in self.modules)]

    def guidance(self, method: str) -> type[Guidance]:
        """Return the kind of guidance of a method; ConfigError if it is of the user's own and cannot be used."""
        spec = self.methods[method]
        return GUIDANCE.get(spec.guidance, self.module_folders, spec.options)

    def objective(self, method: str) -> Callable[..., Tensor] | None:
        """Return a method's own objective; None where guidance raises the task's. ConfigError if it cannot be used."""
        spec = self.methods[method]
        if spec.objective is None:
            return None
        return OBJECTIVES.get(spec.objective, self.module_folders, spec.objective_options)

    def sampler(self, name: str) -> Sampler:
        """Return a sampler; ConfigError if it is of the user's own and cannot be used."""
        spec = self.samplers[name]
        return SAMPLERS.get(spec.kind, self.module_folders, spec.options)

    def drawing(self, sampler: str) -> dict[str, Any]:
        """Return what `ppap.sample` is told of a sampler: the function, its steps, and its noise."""
        function, spec = self.sampler(sampler), self.samplers[sampler]
        eta = spec.eta if function.eta is None else function.eta
        return {"sampler": function, "steps": spec.steps, "eta": eta}

    def prompted(self, prompt: str) -> Preset:
        """Return the preset with another prompt; ConfigError if its diffusion model takes none."""
        glide, prompts = self.diffusion.glide, self.sampling.prompts
        if prompts is not None:
            of_all = prompts.model_copy(update={"file": None, "text": prompt})
            return self.replaced(sampling=self.sampling.model_copy(update={"prompts": of_all}))
        if glide is None:
            raise ConfigError(f"{self.name}: its diffusion model takes no prompt")
        told = glide.model_copy(update={"prompt": prompt})
        return self.replaced(diffusion=self.diffusion.model_copy(update={"glide": told}))

    def task_name(self, model: str) -> str:
        """Return the task of a guide or a judge; all other networks classify."""
        spec = self.guides.get(model) or self.judges.get(model)
        return spec.task if spec else CLASSIFICATION

    def task(self, model: str) -> type[Task]:
        """Look up the class of that task; ConfigError if it is of the user's own and is none."""
        spec = self.guides.get(model) or self.judges.get(model)
        return TASKS.get(self.task_name(model), self.module_folders, spec.task_options if spec else None)

    def task_of(self, model: str) -> Task:
        """Build the task of a guide or a judge for the preset's images."""
        return self.task(model)(self.dataset)

    def judge(self, guide: str) -> str | None:
        """Return the judge of a guide's samples; None if there is none, or the evaluator judges them (classes)."""
        if not self.task(guide).of_pictures:
            return None
        task = self.task_name(guide)
        judges = [name for name, spec in self.judges.items() if spec.task == task]
        return judges[0] if judges else None

    def schedule(self, sampler: str) -> Schedule:
        """Return the noise schedule of the timesteps that a sampler takes, as far as the preset states it."""
        return respaced(self.diffusion.stated_schedule, self.sampler(sampler), self.samplers[sampler].steps)

    @property
    def mirrored(self) -> bool:
        """True if experts learn from mirror images too; the mirror image of a latent is none of a picture."""
        return self.diffusion.latent_space is None and self.dataset.mirror

    @property
    def drawn_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of x_t: of an image of the data set, or of its latent."""
        space, shape = self.diffusion.latent_space, self.dataset.shape
        return shape if space is None else space.latent_shape(shape)

    @property
    def finished_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of a finished image: larger than x_t's in a cascade, whose second stage draws it."""
        upsampling = self.diffusion.upsampling
        if upsampling is None:
            return self.dataset.shape
        return self.dataset.channels, upsampling.image_size, upsampling.image_size

    @property
    def target_classes(self) -> list[int]:
        """The classes that guided runs aim at."""
        return list(self.sampling.classes or range(self.dataset.classes))

    def key(self, model: str) -> str:
        """Return a model's key: diffusion, diffusion.autoencoder, evaluator, evaluator.classifier, judges.NAME, guides.NAME."""
        if model in (DIFFUSION, EVALUATOR):
            return model
        inside = {CLASSIFIER: EVALUATOR, AUTOENCODER: DIFFUSION}
        return f"{inside.get(model, 'judges' if model in self.judges else 'guides')}.{model}"

    @property
    def networks(self) -> dict[str, NetworkConfig]:
        """The preset's vision models by name: its guides, the judges, the evaluator, and the evaluator's classifier."""
        return {**self.guides, **self.judges, **self.evaluator.networks}

    @property
    def files(self) -> dict[str, Download]:
        """Every file of somebody else that the preset names itself, by its key."""
        named: dict[str, Download | None] = {
            **{f"{DIFFUSION}.{key}": file for key, file in self.diffusion.downloads.items()},
            **{f"{EVALUATOR}.{key}": file for key, file in self.evaluator.downloads.items()},
            **{f"{self.key(name)}.weights": spec.weights for name, spec in self.networks.items()},
        }
        return {key: file for key, file in named.items() if file is not None}

    def training(self, model: str) -> Training | None:
        """Return the settings of a model's training here; None if its weights come from elsewhere."""
        if model == DIFFUSION:
            return self.diffusion.training
        if model == AUTOENCODER:
            return self.diffusion.autoencoder.train if self.diffusion.autoencoder else None
        spec = self.networks.get(model)
        return spec.train if spec else None

    def computed(self, method: str) -> bool:
        """Say whether the method's rows are computed; those left out stay empty in the tables."""
        return self.supervised or self.methods[method].supervision != "labels"

    @cached_property
    def stated(self) -> dict[str, Any]:
        """The values that are not the default, but for the folders of modules, which differ from site to site."""
        return self.model_dump(mode="json", exclude={"modules"}, exclude_defaults=True)

    def trained_for(self, method: str) -> Preset:
        """Return the preset as the experts of a method have it, with what the method overrides.

        ConfigError if that is no key of experts, or a value that the key cannot have.
        """
        preset = self
        for key, value in self.methods[method].overrides.items():
            preset = preset._with(key, value)
        return preset

    def _with(self, key: str, value: Any) -> Preset:
        """Return the preset with another value of a key that is about experts."""
        section, _, rest = key.partition(".")
        if section == "experts":
            return self.replaced(experts=_changed(self.experts, rest, value, key))
        name, _, rest = rest.partition(".")
        part, _, rest = rest.partition(".")
        if section != "guides" or part not in ("adapter", "experts"):
            raise ConfigError(f"{key}: no key of `experts`, nor of a guide's `adapter` or `experts`")
        if name not in self.guides:
            raise ConfigError(f"{key}: guides has no '{name}'")
        guide = self.guides[name]
        changed = guide.model_copy(update={part: _changed(getattr(guide, part), rest, value, key)})
        return self.replaced(guides={**self.guides, name: changed})

    def replaced(self, **sections: Any) -> Preset:
        """Return the preset with other sections, which are not checked."""
        other = self.model_copy(update=sections)
        other.__dict__.pop("stated", None)  # which a copy keeps, if it is known already
        return other

    def ranges(self, method: str) -> list[range]:
        """List the noise range of each of the method's experts, from the least noise to the most."""
        allocation = self.trained_for(method).experts.allocation
        return noise_ranges(self.diffusion.stated_schedule, self.methods[method].experts or 1, allocation)


def _changed(section: SectionT, name: str, value: Any, key: str) -> SectionT:
    """Return a section with another value of one of its keys."""
    with named_errors(key.removesuffix(name)):
        checked = type(section).model_validate({**dict(section), name: value})
    return section.model_copy(update={name: getattr(checked, name)})
