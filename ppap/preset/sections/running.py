"""The runtime of networks, the resources of jobs, and one optimisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from ppap.preset.sections.base import Count, Section


class Runtime(Section):
    """How the networks are run; nothing here changes what is computed, but for rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "float32",
        description="of the networks' arithmetic (autocast); states stay float32. "
        "auto: bfloat16 where the processor has arithmetic for it, else float32",
    )
    channels_last: bool = Field(False, description="memory layout of the networks")
    compile: bool | Literal["reduce-overhead"] = Field(
        False,
        description="torch.compile the networks (needs a C++ compiler); reduce-overhead: into CUDA "
        "graphs, for small networks on a GPU. What was compiled is kept in scratch/compiled",
    )


class JobResources(Section):
    """What one process of a step asks for; one that failed asks for twice as much when it is retried."""

    mem_mb: Count = Field(2000, description="memory in MB")
    runtime: Count = Field(60, description="minutes")
    threads: Count = Field(1, description="CPU cores, loader processes included")
    together: Count = Field(
        1,
        description="jobs that follow one another in one process, at most; of training and drawing, "
        "their steps: short ones then start no process each",
    )


class Resources(Section):
    """By step; `train_expert` holds for shared starts too, `features` for those of real images."""

    download: JobResources = JobResources()
    pretrain: JobResources = JobResources()
    generate: JobResources = JobResources()
    upsample: JobResources = JobResources()
    label: JobResources = JobResources()
    train_expert: JobResources = JobResources()
    sample: JobResources = JobResources(runtime=120)
    features: JobResources = JobResources()
    metrics: JobResources = JobResources()
    table: JobResources = JobResources(mem_mb=1000, runtime=10)
    figure: JobResources = JobResources(runtime=30)


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
