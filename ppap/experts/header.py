"""The header of an expert file: what the expert was made for, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY

Positive = Annotated[FiniteFloat, Field(gt=0)]
NetworkInput = Literal["normalised", "unnormalised"]
NORMALISED: NetworkInput = "normalised"
UNNORMALISED: NetworkInput = "unnormalised"


class Purpose(BaseModel):
    """The purpose of an expert: what it is made for. Version 0.1 did not write the fields that may be None."""

    model_config = ConfigDict(frozen=True)

    guide: str = Field(description="the model's name, as in the preset")
    guide_sha256: str | None = Field(None, description="of the off-the-shelf weights' file")
    timesteps: PositiveInt
    noise_schedule: str
    method: str | None = Field(None, description="of the preset; of a shared start its own name")
    supervision: Literal["labels", "teacher"] | None = None
    trainable: Literal["all", "adapter"] | None = None
    rank: PositiveInt | None = Field(None, description="of the adapters, if it has any")
    lora_scale: Positive | None = Field(None, description="the update is lora_scale B A")


class ExpertHeader(Purpose):
    """The metadata of an expert file."""

    range_start: NonNegativeInt
    range_stop: PositiveInt
    lora_scale: Positive
    input: NetworkInput = Field(NORMALISED, description="what its network sees: like the guide's, or images in [-1, 1]")
    trainable_parameters: NonNegativeInt
    guide_parameters: PositiveInt
    guide_state: str | None = Field(
        None, description="a hash of the off-the-shelf model's state, where it is in no file"
    )
    config: str | None = Field(None, description="a hash of the preset's keys that decide it, with their values")
    steps: PositiveInt | None = None
    final_loss: FiniteFloat | None = None
    task: str | None = Field(None, description="of the guide, where no preset says it")
    released_sha256: str | None = Field(None, description="of the file it was imported from")

    @model_validator(mode="after")
    def is_a_range(self) -> Self:
        if not self.range_start < self.range_stop <= self.timesteps:
            raise ValueError(f"[{self.range_start}, {self.range_stop}) is no range of timesteps")
        return self

    @property
    def covers(self) -> range:
        """The timesteps that the expert owns."""
        return range(self.range_start, self.range_stop)

    def metadata(self) -> dict[str, str]:
        """Return it as `files.write_tensors` takes it."""
        known = self.model_dump(exclude_none=True)
        return {key: f"{v:.6g}" if key == "final_loss" else str(v) for key, v in known.items()}


def read_header(path: Path) -> ExpertHeader:
    """Read the header of an expert file; DataError if it is not one."""
    try:
        return ExpertHeader.model_validate(files.read_metadata(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "range"
        raise DataError(f"{path}: not an expert ({key}: {first['msg']}); {REMEDY}") from None
