"""The experiment: samplers, methods, sample counts, and the rows of tables and figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, field_validator

from ppap.diffusion.guidance import GUIDANCE
from ppap.diffusion.samplers import SAMPLERS
from ppap.utils.registry import kind_of
from ppap.utils.settings import Count, Name, Scale, Section, Seed


class SamplerConfig(Section):
    kind: Annotated[str, *kind_of(SAMPLERS)]
    steps: Count = Field(description="sampling steps, out of T")
    eta: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="noise of DDIM and of the user's own samplers (0: none); DDPM's is 1"
    )
    scale: Scale = Field(
        description="guidance scale, one for every method; a guide's `scales` come before it"
    )


class MethodConfig(Section):
    """A row of the grid: what guides, who taught it, how many experts, what is trained."""

    guidance: Annotated[str, *kind_of(GUIDANCE)]
    supervision: Literal["labels", "teacher"] | None = Field(None, description="of the experts")
    experts: Count | None = Field(None, description="number of noise ranges")
    trainable: Literal["all", "adapter"] | None = None
    imported: bool = Field(False, description="its experts come from `ppap import-experts`")


class CleanImagesConfig(Section):
    """The images that the diffusion model draws without guidance; teachers label them."""

    count: Count
    sampler: Name
    seed: Seed = 1_000_000
    batch_size: Count = 250
    shard_size: Count = 1000
    label_shards: Count = Field(50, description="shards that one labelling job takes")


class SamplingConfig(Section):
    samples: Count = Field(description="images of one sampling seed")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, max_length=1000)
    batch_size: Count | Literal["auto"] = Field(
        250, description="auto: what fits into a GPU's memory, found by halving"
    )
    shard_size: Count = Field(1000, description="images of one job")
    checkpoint_every: Count = Field(50, description="sampling steps between checkpoints")

    classes: tuple[NonNegativeInt, ...] | None = Field(
        None, min_length=1, description="target classes; all of the data set's if left out"
    )

    @field_validator("seeds", "classes")
    @classmethod
    def each_once(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        twice = [value for value in values or () if (values or ()).count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice")
        return values

    @property
    def judged_at_once(self) -> int:
        """Images in a batch of finished samples, where networks only look at them."""
        return 64 if self.batch_size == "auto" else self.batch_size

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
        min_length=1,
        max_length=20,
        description="of the gradient maps; the nearest kept ones are shown",
    )
    samples: Count = Field(100, description="images behind the confidence curves")
    images: Count = Field(
        400, description="held-out images, at most, behind the curves of noisy inputs"
    )
