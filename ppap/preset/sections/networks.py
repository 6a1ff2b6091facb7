"""The guides: what they are, and where their weights come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PrivateAttr, model_validator

from ppap.preset.kinds import kind_of
from ppap.preset.sections.base import Count, Name, Scale, Section
from ppap.preset.sections.data import Download
from ppap.preset.sections.libraries import WRITTEN, Library, ModelName, library_of
from ppap.preset.sections.running import Training
from ppap.tasks.kinds import CLASSIFICATION, TASKS

# For pixels in [0, 1]; beyond these bounds single precision makes nothing or infinity of an image.
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=0.001, le=1000)]
_LARGEST_OPTION = 1_000_000  # libraries make lists as long as they are told


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


def _numbers(values: Any) -> Iterator[int]:
    """All whole numbers in the arguments of a model."""
    if isinstance(values, int):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _numbers(value)


class NetworkConfig(Section):
    """A vision model by name. Without `train` it has its library's weights."""

    model: ModelName = Field(description=WRITTEN)
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the model's class"
    )
    input_size: Annotated[int, Field(gt=0, le=4096)] | None = Field(
        None,
        description="pixels a side the model sees; images are resized. Library weights bring theirs",
    )
    mean: tuple[Mean, ...] | None = Field(
        None,
        min_length=1,
        description="of its input normalisation, in [0, 1]; left out: the weights' own, or 0.5",
    )
    std: tuple[Deviation, ...] | None = Field(
        None,
        min_length=1,
        description="of its input normalisation, in [0, 1]; left out: the weights' own, or 0.5",
    )
    channels_last: bool = Field(
        False, description="memory layout, as runtime.channels_last, of this network alone"
    )
    train: Training | None = Field(
        None, description="how the workflow trains it on real images; left out: library weights"
    )
    weights: Download | None = Field(
        None, description="a file in the library's format to take instead of the library's own"
    )

    _published: bool = PrivateAttr(False)

    @property
    def library(self) -> Library:
        """The library that the model is of."""
        return library_of(self.model)

    @property
    def published(self) -> bool:
        """Whether its weights are a file of somebody else's: its library's own, or `weights`."""
        return self._published

    @model_validator(mode="after")
    def weights_have_a_source(self) -> NetworkConfig:
        self._published = self.train is None and self.library.publishes_weights
        if self.weights and not self._published:
            raise ValueError("weights: only for a model of a library that is not trained here")
        if self.weights and not self.library.one_file:
            raise ValueError("weights: name the folder that they are in, in `model`")
        if self.input_size is None and not self._published:
            raise ValueError("input_size: a model without library weights needs it")
        ours = [key for key in self.options if key in self.library.ours]
        if ours:
            raise ValueError(
                f"options.{ours[0]}: follows from the rest of the preset; leave it out"
            )
        large = [value for value in _numbers(self.options) if abs(value) > _LARGEST_OPTION]
        if large:
            raise ValueError(f"options: {large[0]} is more than any network has of anything")
        return self


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
