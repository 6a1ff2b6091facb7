"""One expert: its header, and what it changes of the off-the-shelf model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ppap.experts import lora as adapters
from ppap.experts.header import ExpertHeader, Purpose, read_header
from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY

_OTHER_PRESET = f"use the preset that it was made with, or {REMEDY}"


class Expert(NamedTuple):
    """One expert: what it was made for, and what it changes of the off-the-shelf model.

    The latter is in memory, or read from its file when it is needed.
    """

    path: Path
    header: ExpertHeader
    changed: dict[str, Tensor] | None = None

    @property
    def timesteps(self) -> range:
        """The timesteps that it owns."""
        return self.header.covers


def read_expert(path: Path) -> Expert:
    """Read the header of an expert file; DataError if it is not one."""
    return Expert(path, read_header(path))


def read_delta(expert: Expert, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read what the expert changes of a guide whose plain state this is; DataError unless it fits."""
    header = expert.header
    delta = files.read_tensors(expert.path) if expert.changed is None else expert.changed
    adapted = any(name.endswith((".lora_A", ".lora_B")) for name in delta)
    if header.trainable is not None and adapted != (header.trainable == "adapter"):
        raise DataError(f"{expert.path}: {'has' if adapted else 'lacks'} adapters; {REMEDY}")
    rank = header.rank or adapters.rank_of(delta, state)
    tensor_spec.check(expert.path, delta, adapters.delta_spec(delta, state, rank))
    return delta


def check_experts(experts: list[Expert], wanted: Purpose, ranges: list[range]) -> None:
    """DataError unless all were made for this purpose, for these ranges, and see alike input."""
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
    """DataError unless the purposes agree in what both of them say. Rank and scale of imported experts may be any."""
    imported = expert.header.released_sha256 is not None
    for key in Purpose.model_fields:
        if imported and key in ("rank", "lora_scale"):
            continue
        made_for, value = getattr(expert.header, key), getattr(wanted, key)
        if None not in (made_for, value) and made_for != value:
            raise DataError(f"{expert.path}: made for {key} {made_for}, the run has {value}; {_OTHER_PRESET}")


def _text(timesteps: range) -> str:
    return f"[{timesteps.start}, {timesteps.stop})"
