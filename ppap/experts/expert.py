"""One expert: what it was made for, and what it changes of the off-the-shelf model."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, get_args

import numpy as np
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
from torch import Tensor

from ppap.diffusion.autoencoder import Autoencoder, LatentSpace
from ppap.diffusion.guidance import Sees
from ppap.diffusion.noise_ranges import log_snr_range
from ppap.diffusion.schedules import Array, Schedule, ScheduleName
from ppap.diffusion.schedules import betas as known_betas
from ppap.experts import lora
from ppap.guides.views import ViewName
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.tensor_spec import REMEDY

Positive = Annotated[FiniteFloat, Field(gt=0)]
NetworkInput = Literal["normalised", "unnormalised"]
_OTHER_PRESET = f"use the preset that it was made with, or {REMEDY}"


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
    sees: Sees | None = Field(None, description="x_t, or the network's estimate of x_0 in it; since version 0.5")
    predicts: str | None = Field(None, description="what the network predicts whose estimates it sees")
    view: ViewName | None = Field(None, description="of latents, `linear` or `decoder`; None: it sees pixels")
    view_sha256: str | None = Field(None, description="of the weights that decode latents for it, if its view does")
    latent_scale: str | None = Field(None, description="of the autoencoder's latents")
    latent_shift: str | None = None
    decoder_sha256: str | None = Field(None, description="of the autoencoder's weights that decode")

    @property
    def latents(self) -> LatentSpace | None:
        """The latents that it sees; None: it sees pixels."""
        if self.latent_scale is None or self.latent_shift is None or self.decoder_sha256 is None:
            return None
        return LatentSpace(self.latent_scale, self.latent_shift, self.decoder_sha256)


def sight(
    sees: Sees, predicts: str, view: str | Autoencoder | None, autoencoder: Autoencoder | None
) -> dict[str, str | None]:
    """Return the fields of a purpose that say what experts look at."""
    space = None if autoencoder is None else autoencoder.space
    decoder = view.space if isinstance(view, Autoencoder) else space
    name = "decoder" if isinstance(view, Autoencoder) else view
    return {
        "sees": sees,
        "predicts": predicts if sees == "x0_hat" else None,
        "view": None if space is None else name,
        "view_sha256": decoder.decoder_sha256 if decoder and name == "decoder" else None,
        "latent_scale": space and space.scale,
        "latent_shift": space and space.shift,
        "decoder_sha256": space and space.decoder_sha256,
    }


class ExpertHeader(Purpose):
    """The metadata of an expert file."""

    range_start: NonNegativeInt
    range_stop: PositiveInt
    log_snr_min: FiniteFloat | None = Field(None, description="the least log-SNR of its noise; since version 0.4")
    log_snr_max: FiniteFloat | None = Field(None, description="the greatest")
    lora_scale: Positive
    input: NetworkInput = Field("normalised", description="what its network sees: as the guide does, or [-1, 1]")
    trainable_parameters: NonNegativeInt
    guide_parameters: PositiveInt
    guide_state: str | None = Field(
        None, description="a hash of the off-the-shelf model's state, of experts that were saved by themselves"
    )
    config: str | None = Field(None, description="a hash of the preset's keys that decide it, with their values")
    steps: PositiveInt | None = None
    final_loss: FiniteFloat | None = None
    held_out_loss: float | None = Field(None, description="on images held out of its training, noised as in its range")
    off_the_shelf_loss: float | None = Field(None, description="of the model it came from, on the same noisy images")
    released_sha256: str | None = Field(None, description="of the file it was imported from")

    @property
    def worse(self) -> bool:
        """True if it is known to be worse than the model it came from."""
        own, guide = self.held_out_loss, self.off_the_shelf_loss
        return own is not None and guide is not None and own > guide

    @model_validator(mode="after")
    def is_a_range(self) -> Self:
        if not self.range_start < self.range_stop <= self.timesteps:
            raise ValueError(f"[{self.range_start}, {self.range_stop}) is no range of timesteps")
        low, high = self.log_snr_min, self.log_snr_max
        if (low is None) != (high is None) or (low is not None and high is not None and low > high):
            raise ValueError(f"{low} to {high} is no range of log-SNR")
        return self

    def metadata(self) -> dict[str, str]:
        """Return the header in the form that `files.write_tensors` takes."""
        known = self.model_dump(exclude_none=True)
        return {key: f"{v:.6g}" if key.endswith("_loss") else str(v) for key, v in known.items()}


class Expert(NamedTuple):
    """One expert. What it changes of the off-the-shelf model is in memory, or read from its file when it is needed."""

    path: Path
    header: ExpertHeader
    changed: dict[str, Tensor] | None = None

    @property
    def timesteps(self) -> range:
        """The timesteps that it owns."""
        return range(self.header.range_start, self.header.range_stop)

    @property
    def log_snr(self) -> tuple[float, float] | None:
        """The least and the greatest log-SNR of the noise that it was trained on; None if nothing says it."""
        low, high = self.header.log_snr_min, self.header.log_snr_max
        return None if low is None or high is None else (low, high)

    def placed(self, betas: Array | None = None) -> Expert:
        """Return it with its log-SNR, which files before version 0.4 do not say: by the schedule that they name.

        This is linear, cosine, or the one with these `betas` (T,). The expert of another schedule stays as it is.
        """
        found = _betas_of(self.header, betas) if self.log_snr is None else None
        return self if found is None else self.trained_on(Schedule.of_betas(found))

    def trained_on(self, schedule: Schedule) -> Expert:
        """Return it with the log-SNR of its timesteps in the full schedule of its training."""
        low, high = log_snr_range(schedule, self.timesteps)
        return self._replace(header=self.header.model_copy(update={"log_snr_min": low, "log_snr_max": high}))

    def made_of(self, guide: str, state: str) -> Expert:
        """Return it with this name of its guide, and the hash of its state, which those of the workflow do not say."""
        known = {"guide": guide, "guide_state": self.header.guide_state or state}
        return self._replace(header=self.header.model_copy(update=known))

    def tensors(self) -> dict[str, Tensor]:
        """Return what it changes, by plain parameter names (`ppap.experts.lora.delta`)."""
        return files.read_tensors(self.path) if self.changed is None else self.changed


def schedule_name(betas: Array) -> str:
    """Return the name of a noise schedule in the headers of experts: a hash of its betas (T,)."""
    return f"betas {hashlib.sha256(np.round(betas, 9).tobytes()).hexdigest()[:12]}"


def _betas_of(header: ExpertHeader, given: Array | None) -> Array | None:
    """Return the betas of the schedule that a header names, if they are known or given."""
    for name in get_args(ScheduleName):
        with contextlib.suppress(ConfigError):  # too few timesteps for it
            betas = known_betas(name, header.timesteps)
            if header.noise_schedule in (name, schedule_name(betas)):
                return betas
    return given if given is not None and header.noise_schedule == schedule_name(given) else None


def read_expert(path: Path) -> Expert:
    """Read the header of an expert file; DataError if it is not one."""
    try:
        return Expert(path, ExpertHeader.model_validate(files.read_metadata(path)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "range"
        raise DataError(f"{path}: not an expert ({key}: {first['msg']}); {REMEDY}") from None


def read_delta(expert: Expert, state: Mapping[str, Tensor], buffers: Collection[str]) -> dict[str, Tensor]:
    """Read what the expert changes of a guide with this plain state, whose `buffers` are not trained.

    DataError unless it fits, and holds as many numbers as were trained.
    """
    path, header, delta = expert.path, expert.header, expert.tensors()
    rank = header.rank or lora.rank_of(delta, state)
    tensor_spec.check(path, delta, lora.delta_spec(delta, state, rank))
    held = sum(value.numel() for name, value in delta.items() if name not in buffers)
    if held < header.trainable_parameters:
        raise DataError(f"{path}: holds {held} of the {header.trainable_parameters} parameters it trained; {REMEDY}")
    return delta


def check_experts(experts: list[Expert], wanted: Purpose, ranges: list[range]) -> None:
    """Raise DataError unless all were made for this purpose, for these ranges, and see alike input."""
    for expert in experts:
        _check_purpose(expert, wanted)
        if expert.header.input != experts[0].header.input:
            raise DataError(
                f"{expert.path}: sees {expert.header.input} input, {experts[0].path} {experts[0].header.input}"
            )
    for expert, needed in zip(experts, ranges, strict=False):
        if expert.timesteps != needed:
            raise DataError(
                f"{expert.path}: covers timesteps {_text(expert.timesteps)}, the run needs {_text(needed)}; "
                f"{_OTHER_PRESET}"
            )
    if len(experts) != len(ranges):
        raise DataError(f"{len(experts)} expert files for {len(ranges)} noise ranges")


def _check_purpose(expert: Expert, wanted: Purpose) -> None:
    """Raise DataError unless the purposes agree in what both say. Rank and scale of imported experts may be any."""
    imported = expert.header.released_sha256 is not None
    for key in Purpose.model_fields:
        if imported and key in ("rank", "lora_scale"):
            continue
        made_for, value = getattr(expert.header, key), getattr(wanted, key)
        if None not in (made_for, value) and made_for != value:
            raise DataError(f"{expert.path}: made for {key} {made_for}, the run has {value}; {_OTHER_PRESET}")


def _text(timesteps: range) -> str:
    return f"[{timesteps.start}, {timesteps.stop})"
