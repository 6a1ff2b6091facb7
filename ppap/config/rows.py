"""The sections of a preset that make the rows of its tables: samplers, methods, and grids of both with guides."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ppap.diffusion.goals import OBJECTIVES
from ppap.diffusion.guidance import Sees
from ppap.diffusion.guidance_kinds import GUIDANCE
from ppap.diffusion.noise_ranges import TrainedAt
from ppap.diffusion.samplers import SAMPLERS
from ppap.guides.views import ViewName
from ppap.utils.registry import kind_of
from ppap.utils.settings import Count, Name, Scale, Section

OF_EXPERTS = (
    *("supervision", "experts", "trainable", "trained_at", "imported"),
    *("taught_on", "sees", "estimates", "view", "overrides"),
)
"""The keys of a method that say what its experts are."""


class SamplerConfig(Section):
    """A sampler, by a name of your choice, such as `ddim25`."""

    kind: Annotated[str, *kind_of(SAMPLERS)] = Field(
        description="`user:MODULE.FUNCTION` is [your own](../docs/extending.md)"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="arguments by name of a sampler of your own")
    steps: Count = Field(description="sampling steps, out of T")
    eta: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="noise of DDIM and of samplers of your own; DDPM does not read it"
    )
    scale: Scale = Field(description="guidance scale, one for every method; a guide's `scales` come before it")


class MethodConfig(Section):
    """A row of the grid, by a name of your choice: what guides, who taught it, how many experts, what is trained.

    `supervision`, `experts` and `trainable` belong to `guidance: experts`, to a rival of it (`options: {of: experts}`), and
    to kinds of your own that say so; with `experts_of` they are those of the other method.
    """

    guidance: Annotated[str, *kind_of(GUIDANCE)] = Field(
        description="how a model guides, or what stands in for samples: [kinds](#guidance); `user:MODULE.CLASS` is "
        "[your own](../docs/extending.md)"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments by name of [guidance](#guidance), and of guidance of your own"
    )
    objective: Annotated[str, *kind_of(OBJECTIVES)] | None = Field(
        None,
        description="what guidance raises in place of the task's, such as log p(target): `user:MODULE.FUNCTION`, "
        "[your own](../docs/extending.md#an-objective), of a guide's answers and the targets",
    )
    objective_options: dict[str, Any] = Field(
        default_factory=dict, description="arguments by name of an objective of your own"
    )
    title: str | None = Field(
        None, max_length=60, description="its name in tables and figures; left out: the paper's, or the method's own"
    )
    experts_of: Name | None = Field(None, description="another method, whose experts this one uses too")
    supervision: Literal["labels", "teacher"] | None = Field(None, description="what teaches the experts")
    experts: Count | None = Field(None, description="number of noise ranges, an expert each")
    trainable: Literal["all", "adapter"] | None = Field(None, description="which parameters experts train")
    taught_on: Literal["drawn", "real"] = Field(
        "drawn",
        description="what a teacher answers on: clean images, `drawn` by the diffusion model, or `real` ones, in which case "
        "experts are no longer made without data",
    )
    trained_at: TrainedAt = Field(
        "range",
        description="where an expert is trained: on its whole `range`, or at its `midpoint` alone. It is asked on all of it, "
        "and a shared start sees all timesteps",
    )
    sees: Sees = Field(
        "x_t",
        description="what experts look at: `x_t`, as in the paper, or `x0_hat`, the network's estimate of x0 in it, where "
        "their gradient is taken too, not through the network",
    )
    estimates: Literal["fresh", "stored"] = Field(
        "fresh",
        description="of experts that see `x0_hat` and learn from a teacher: `fresh` ones, a call of the network for each "
        "image of their training, or those `stored` of each clean image (`clean_images.estimates`)",
    )
    view: ViewName | None = Field(
        None,
        description="how experts look at latents: `linear` (a linear map of their channels, trained along), or `decoder` "
        "(the autoencoder's); of latents needed, of pixels there is none",
    )
    scales: dict[Name, Scale] = Field(
        default_factory=dict,
        description="its guidance scale by guide, before those of the guide and of the sampler: `{class: 60}`",
    )
    imported: bool = Field(False, description="experts are not trained: `ppap import-experts` puts released ones there")
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of `experts`, and of a guide's `adapter` and `experts`, that are other for this method's experts "
        "than for all: `{experts.tau: 1.0, guides.vit.adapter.rank: 4}`",
    )


class Grid(Section):
    """Rows of a table: every guide x sampler x method. No row stands in a table twice."""

    guides: tuple[Name, ...] = Field(min_length=1, description="names of `guides`")
    samplers: tuple[Name, ...] = Field(min_length=1, description="names of `samplers`")
    methods: tuple[Name, ...] = Field(min_length=1, description="names of `methods`")
