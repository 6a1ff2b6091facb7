"""The guides: what they are, and where their weights come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ppap.experts.settings import AdapterConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.tasks.registry import TASKS
from ppap.training.settings import Training
from ppap.utils.registry import kind_of
from ppap.utils.settings import CLASSIFICATION, Count, Name, Scale, Section

# For pixels in [0, 1]; beyond these bounds single precision makes nothing or infinity of an image.


TaskName = Annotated[str, *kind_of(TASKS)]


class TargetsConfig(Section):
    """Pictures whose depth, labels and the like samples are guided to show."""

    count: Count = Field(100, description="held-out real pictures, where no folder is given")
    folder: str | None = Field(
        None,
        description="of targets: maps (.npy, grey .png), or pictures that the guide itself looks at",
    )


class JudgeConfig(NetworkConfig):
    """An independent network that judges the samples of the guides with its task."""

    task: TaskName = Field(description="of the guides whose samples it judges")


class GuideConfig(NetworkConfig):
    """An off-the-shelf model that guides, and how it is adapted to noise."""

    task: TaskName = Field(CLASSIFICATION, description="what it says of an image")
    targets: TargetsConfig = Field(
        TargetsConfig(), description="of tasks whose targets are pictures, not classes"
    )
    scales: dict[Name, Scale] = Field(
        default_factory=dict, description="guidance scale by sampler, in place of the sampler's own"
    )

    stands_for: str | None = Field(None, description="architecture in the paper's tables")
    adapter: AdapterConfig
    experts: Training = Field(description="noise-aware training; steps are a row's total")
