"""Settings of experts: what they train, and what they share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from ppap.diffusion.noise_ranges import Allocation
from ppap.utils.arguments import checked
from ppap.utils.settings import Count, Section


@checked
class AdapterConfig(Section):
    """The few parameters that an expert trains (`trainable: adapter`).

    Patterns are shell patterns over the library's names; `*` also matches dots, and what `freeze` matches gets no LoRA
    either. A pattern that you give must match something. [Patterns of many families](#adapters) were tried. A weight
    that a spectral or weight norm computes, that is tied to another layer's, or that is quantised, takes no LoRA.
    """

    rank: Count = Field(16, description="of LoRA")
    alpha: PositiveFloat = Field(8.0, description="the update is alpha/rank · BA")
    layers: tuple[str, ...] | None = Field(
        None,
        description="patterns of convolutions and linear layers that get LoRA; left out: all that take it, are not "
        "grouped (as depthwise ones are), and have at least twice the numbers of their LoRA; if none has, all of them",
    )
    train: tuple[str, ...] = Field(("*.bias",), description="patterns of parameters trained besides")
    freeze: tuple[str, ...] = Field(
        ("fc.*", "head*", "classifier.*"), description="patterns never trained; by default the classification heads"
    )
    learning_rate: PositiveFloat | None = Field(
        None, description="of adapter training; left out: the guide's `experts.learning_rate`"
    )


@checked
class ExpertsConfig(Section):
    """All noise-aware experts share these settings. `guides.NAME.experts` says how a guide's own are trained."""

    allocation: Allocation = Field(
        "uniform",
        description="how T is divided into ranges: `uniform`, `log_snr` (equal widths in log-SNR), or `reference` (uniform, "
        "but a timestep on a boundary belongs to the expert below, which the authors' sampler asks)",
    )
    warm_start: Literal["none", "sequential", "shared"] = Field(
        "shared",
        description="what an expert starts from: `none` (the off-the-shelf model), `sequential` (the expert before it), "
        "`shared` (one start trained on all timesteps)",
    )
    warm_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of a row's steps that the shared start takes"
    )
    held_out: Annotated[int, Field(ge=0)] = Field(
        256,
        description="images that no expert learns from: a tenth of the clean ones, or of a folder's pictures, at "
        "most, which experts then lack; where labels teach and all images are in memory, of those that `dataset.holdout` "
        "sets apart. An expert's loss there, and the off-the-shelf model's, are in its header and in tables; a warning "
        "says if it is worse",
    )
    images: Count | None = Field(
        None,
        description="images that a teacher has answered on, the first of them, that experts learn from; left out: all",
    )
    tau: Annotated[float, Field(ge=0.001, le=1000)] = Field(
        0.25, description="the teacher's temperature, for classes and labels"
    )
    reduction: Literal["sum", "reference"] = Field(
        "sum",
        description="of the distillation loss of classifiers over classes; `reference`: their mean, as in the authors' "
        "code",
    )
