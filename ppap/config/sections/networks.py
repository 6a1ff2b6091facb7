"""Guides and judges: what they are, and where their weights come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ppap.experts.settings import AdapterConfig
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.tasks.registry import TASKS
from ppap.training.settings import Training
from ppap.utils.registry import kind_of
from ppap.utils.settings import CLASSIFICATION, Count, Name, Scale, Section

TaskName = Annotated[str, *kind_of(TASKS)]


class TargetsConfig(Section):
    """Pictures whose depth, labels and the like samples are guided to show, in place of classes.

    Depth maps are larger where nearer, of any scale. Labels are whole numbers from 0, and 255 for pixels that may show
    anything. Files are not watched: after a change, `snakemake --forcerun targets`. `ppap targets PRESET GUIDE` reads
    them, and says what is wrong with one.
    """

    count: Count = Field(100, description="how many held-out real pictures, whose depth or labels the data set knows")
    folder: str | None = Field(
        None,
        description="instead of these: a folder of files, of any depth, one target each. A map (.npy, or a .png of one "
        "channel, grey or indexed) is the target itself, of any size: its middle square is taken. A picture in colour is "
        "looked at by the guide, and what it sees there is the target",
    )


class JudgeConfig(NetworkConfig):
    """An independent network, by a name of your choice, that judges the samples of the guides with its task.

    There is one for each task but classification, at most, and no guide should be the same network. Without a judge of
    its task, a guide's rows have FID, precision and recall, and no score of the task.
    """

    task: TaskName = Field(description="of the guides whose samples it judges")


class GuideConfig(NetworkConfig):
    """An off-the-shelf model that guides, by a name of your choice, and how it is adapted to noise."""

    task: TaskName = Field(
        CLASSIFICATION,
        description="what it says of an image, see [Tasks](#tasks); `user:MODULE.CLASS` is "
        "[your own](../docs/extending.md#a-task)",
    )
    targets: TargetsConfig = Field(
        TargetsConfig(), description="where the pictures come from whose depth or labels samples are guided to"
    )
    scales: dict[Name, Scale] = Field(
        default_factory=dict,
        description="its guidance scale by sampler, in place of the sampler's own: `{ddim25: 0.5}`. One for every "
        "method",
    )
    stands_for: str | None = Field(
        None,
        description="the architecture in the paper's tables whose printed values stand beside it: `resnet50`, `deit_s`, "
        "`resnet18` or `resnet152`",
    )
    adapter: AdapterConfig = Field(description="which few parameters an expert trains")
    experts: Training = Field(description="noise-aware training")
