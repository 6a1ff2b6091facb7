"""Settings of experts: what they train, and what they share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from ppap.diffusion.noise_ranges import Allocation
from ppap.utils.settings import Count, Section


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


class ExpertsConfig(Section):
    """What all experts share."""

    allocation: Allocation = Field("uniform", description="how T is divided into ranges")
    warm_start: Literal["none", "sequential", "shared"] = Field(
        "shared", description="what an expert starts from"
    )
    warm_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of a row's steps that the shared start takes"
    )
    tau: Annotated[float, Field(ge=0.001, le=1000)] = Field(
        0.25, description="the teacher's temperature"
    )
    reduction: Literal["sum", "reference"] = Field(
        "sum", description="over classes; reference: their mean, as in the authors' code"
    )
