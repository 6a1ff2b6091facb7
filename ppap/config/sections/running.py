"""The resources of jobs."""

from __future__ import annotations

from pydantic import Field

from ppap.utils.settings import Count, Section


class JobResources(Section):
    """What a job of a step asks for.

    One that failed asks for twice as much memory and time when it is retried, then for three times as much.
    """

    mem_mb: Count = Field(2000, description="memory in MB")
    runtime: Count = Field(60, description="minutes")
    threads: Count = Field(1, description="CPU cores, loader processes included")


class Resources(Section):
    """What jobs ask of the machine, by step. Nothing here changes a result."""

    download: JobResources = Field(JobResources(), description="weights and images of others")
    pretrain: JobResources = Field(JobResources(), description="training of what the preset trains itself")
    generate: JobResources = Field(JobResources(), description="clean images")
    upsample: JobResources = Field(JobResources(), description="the second stage of a cascade")
    label: JobResources = Field(JobResources(), description="teachers' answers, and targets")
    train_expert: JobResources = Field(JobResources(), description="experts, and shared starts")
    sample: JobResources = Field(JobResources(runtime=120), description="guided samples")
    features: JobResources = Field(JobResources(), description="the evaluator's features, of real images too")
    metrics: JobResources = Field(JobResources(), description="metrics")
    table: JobResources = Field(JobResources(mem_mb=1000, runtime=10), description="tables")
    figure: JobResources = Field(JobResources(runtime=30), description="figures")
