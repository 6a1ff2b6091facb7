"""Settings of one optimisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from ppap.utils.settings import Count, Section


class Training(Section):
    """One optimisation: AdamW with a warm-up and a decay to zero."""

    steps: Count = Field(description="optimiser steps; for experts the total of the row")
    batch_size: Count = 128
    learning_rate: PositiveFloat = Field(1e-3, description="AdamW's, after the warm-up")
    weight_decay: NonNegativeFloat = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of the steps")
    decay: Literal["linear", "cosine", "none"] = Field("linear", description="to zero")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay of averaged weights")
    clip: NonNegativeFloat = Field(0.0, description="largest gradient norm; 0: no limit")
    shift: Annotated[int, Field(ge=0, le=4096)] = Field(
        0, description="augmentation: largest shift in pixels"
    )
    checkpoint_every: Count = Field(1000, description="steps between checkpoints")
