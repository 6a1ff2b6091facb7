"""The runtime of networks, the resources of jobs, and one optimisation."""

from __future__ import annotations

from pydantic import Field

from ppap.utils.settings import Count, Section


class JobResources(Section):
    """What a job of a step asks for; one that failed asks for twice as much when it is retried."""

    mem_mb: Count = Field(2000, description="memory in MB")
    runtime: Count = Field(60, description="minutes")
    threads: Count = Field(1, description="CPU cores, loader processes included")


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
