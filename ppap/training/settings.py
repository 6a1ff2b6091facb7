"""Settings of one optimisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from ppap.utils.arguments import checked
from ppap.utils.settings import FREE, Count, Section


@checked
class Training(Section):
    """One optimisation: AdamW with a warm-up and a decay to zero."""

    steps: Count = Field(
        description="optimiser steps; of `experts`, the total of a row, shared start included: one for each expert at least"
    )
    batch_size: Count = Field(128, description="images a step")
    learning_rate: PositiveFloat = Field(1e-3, description="AdamW's, after the warm-up")
    weight_decay: NonNegativeFloat = Field(0.01, description="AdamW's")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the steps over which the learning rate rises"
    )
    decay: Literal["linear", "cosine", "none"] = Field("linear", description="of the learning rate to zero")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay of averaged weights; 0: no average")
    clip: NonNegativeFloat = Field(0.0, description="largest gradient norm; 0: no limit")
    shift: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="augmentation of off-the-shelf training: largest shift in pixels, less than the image"
    )
    checkpoint_every: Count = Field(1000, json_schema_extra=FREE, description="steps between checkpoints")
