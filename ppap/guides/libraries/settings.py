"""Settings of a vision model: what it is, its input, and where its weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator

from ppap.data.settings import Download
from ppap.guides.libraries.library import Input, Library
from ppap.guides.libraries.registry import ModelName, library_of
from ppap.guides.preprocessing import Interpolation
from ppap.training.settings import Training
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError
from ppap.utils.settings import FREE, Section

Mean = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(ge=0.001, le=1000)]


@checked
class NetworkConfig(Section):
    """A vision model: a guide, a judge or a classifier. Without `train` it has its library's weights."""

    model: ModelName = Field(
        description="`timm:NAME` (`timm:NAME.TAG` for certain weights), `torchvision:NAME/WEIGHTS` "
        "(`torchvision:resnet50/IMAGENET1K_V2`, or a segmenter: "
        "`torchvision:deeplabv3_resnet50/COCO_WITH_VOC_LABELS_V1`), `transformers:NAME_OR_FOLDER`, or "
        "`user:MODULE.FUNCTION`; see [Models](#models)"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the model's class, but for its channels, classes and weights, which the rest of the "
        "preset decides; of transformers, its whole configuration",
    )
    input_size: Annotated[int, Field(gt=0, le=4096)] | None = Field(
        None,
        description="pixels a side the model sees; images are resized, differentiably. Left out: the library's; needed "
        "with `train` and for models of your own",
    )
    mean: tuple[Mean, ...] | None = Field(
        None,
        min_length=1,
        description="of its input normalisation, for pixels in [0, 1]; one number, or one a channel. Left out: the "
        "library's; 0.5 with `train` and for models of your own",
    )
    std: tuple[Deviation, ...] | None = Field(None, min_length=1, description="of its input normalisation, as `mean`")
    interpolation: Interpolation | None = Field(
        None, description="of the resize to `input_size`. Left out: the library's; bilinear if it says none"
    )
    antialias: bool | None = Field(
        None,
        description="whether the resize smooths where it shrinks. Left out: as the library does, which is nearly always "
        "so; older ones (torchvision before 0.17, on tensors) did not",
    )
    channels_last: bool = Field(
        False,
        json_schema_extra=FREE,
        description="memory layout of this network alone, as `runtime.channels_last` of all: convolutions may be "
        "faster",
    )
    train: Training | None = Field(
        None, description="how the workflow trains it on real images; left out: the library's weights"
    )
    weights: Download | None = Field(
        None,
        description="a file in the library's format to take instead of the library's own (of transformers, name a folder "
        "in `model`): safetensors, or what `torch.save` wrote of a state dict, however a training script wrapped it; "
        "averaged (EMA) weights are taken where there are any",
    )

    _published: bool = PrivateAttr(False)

    @property
    def library(self) -> Library:
        """The library that the model is of."""
        return library_of(self.model)

    @property
    def name(self) -> str:
        """The part of `model` after LIBRARY."""
        return self.model.partition(":")[2]

    @property
    def published(self) -> bool:
        """True if its weights are a file of others: its library's own, or `weights`."""
        return self._published

    @property
    def from_library(self) -> bool:
        """True if its weights are those that its library publishes under its name."""
        return self._published and self.weights is None and self.library.folder_name(self.name) is None

    def input(self, file: Path) -> Input:
        """Read its input: what is said here, else what goes with its weights, which the workflow keeps in `file`."""
        own = {"mean": (0.5,), "std": (0.5,)}
        return self.completed(lambda: self.library.published_input(self, file) if self.published else own)

    def completed(self, published: Callable[[], Mapping[str, Any]]) -> Input:
        """Fill in what is not said here of the input from that of published weights, asked for if it is needed.

        ConfigError if neither says a size or a normalisation.
        """
        known = {key: value for key in Input._fields if (value := getattr(self, key)) is not None}
        if len(known) < len(Input._fields):
            known = {**published(), **known}
        unknown = [key for key in ("input_size", "mean", "std") if key not in known]
        if unknown:
            raise ConfigError(f"model '{self.model}': nothing says its {' and '.join(unknown)}; state it")
        return Input(**known)

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
            raise ValueError(f"options.{ours[0]}: follows from the rest of the preset; leave it out")
        return self
