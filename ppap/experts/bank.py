"""Experts, and the bank that puts the one that owns a timestep into the guide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.experts import lora as adapters
from ppap.experts.header import NORMALISED, ExpertHeader, Purpose, purpose_of, read_header
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Task
from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY
from ppap.workflow.layout import Layout

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
        return self.header.covers


def read_expert(path: Path) -> Expert:
    """The header of an expert file; DataError if it is not one."""
    return Expert(path, read_header(path))


def read_delta(expert: Expert, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the expert changes of a guide whose plain state this is; DataError unless it fits."""
    header = expert.header
    delta = files.read_tensors(expert.path) if expert.changed is None else expert.changed
    adapted = any(name.endswith((".lora_A", ".lora_B")) for name in delta)
    if header.trainable is not None and adapted != (header.trainable == "adapter"):
        raise DataError(f"{expert.path}: {'has' if adapted else 'lacks'} adapters; {REMEDY}")
    rank = header.rank or adapters.rank_of(delta, state)
    tensor_spec.check(expert.path, delta, adapters.delta_spec(delta, state, rank))
    return delta


def read_start(
    path: Path, wanted: Purpose, timesteps: range, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What an expert starts from: the delta of another, which must have been made for this."""
    expert = read_expert(path)
    check_experts([expert], wanted, [timesteps])
    return read_delta(expert, state)


def check_experts(experts: list[Expert], wanted: Purpose, ranges: list[range]) -> None:
    """DataError unless all were made for this purpose, for these ranges, and see alike input."""
    for expert in experts:
        _check_purpose(expert, wanted)
        if expert.header.input != experts[0].header.input:
            raise DataError(
                f"{expert.path}: sees {expert.header.input} input, {experts[0].path} {experts[0].header.input}"
            )
    for expert, mine in zip(experts, ranges, strict=False):
        if expert.timesteps != mine:
            found = f"[{expert.timesteps.start}, {expert.timesteps.stop})"
            raise DataError(
                f"{expert.path}: covers timesteps {found}, the run needs [{mine.start}, {mine.stop}); "
                f"{_OTHER_PRESET}"
            )
    if len(experts) != len(ranges):
        raise DataError(f"{len(experts)} expert files for {len(ranges)} noise ranges")


def _check_purpose(expert: Expert, wanted: Purpose) -> None:
    """What either side leaves open fits. The adapters of imported experts are as their authors made them."""
    imported = expert.header.released_sha256 is not None
    for key in Purpose.model_fields:
        if imported and key in ("rank", "lora_scale"):
            continue
        found, value = getattr(expert.header, key), getattr(wanted, key)
        if None not in (found, value) and found != value:
            raise DataError(
                f"{expert.path}: made for {key} {found}, the run has {value}; {_OTHER_PRESET}"
            )


def bank_of(layout: Layout, guide: str, method: str, network: Guide) -> ExpertBank:
    """The experts that the workflow keeps of a guide and a method; DataError unless they are the preset's."""
    preset = layout.preset
    experts = [read_expert(path) for path in layout.experts(guide, method)]
    wanted = purpose_of(preset, guide, method, layout.model(guide))
    check_experts(experts, wanted, preset.ranges(preset.methods[method]))
    return ExpertBank(network, experts)


class ExpertBank:
    """A guide whose weights are exchanged for those of the expert that owns a timestep.

    There is one network. Each expert's adapters are merged into plain weights once, when its range is first reached;
    these stay in memory, and to exchange them copies nothing. DataError if an expert does not fit the guide: at once,
    rather than when its range is reached.
    """

    def __init__(self, guide: Guide, experts: list[Expert]) -> None:
        self.guide, self.experts = guide, experts
        network = guide.network
        self._places: dict[str, Tensor] = {
            **dict(network.named_parameters(remove_duplicate=False)),
            **dict(network.named_buffers(remove_duplicate=False)),
        }
        self._state = {name: self._places[name].data for name in network.state_dict()}
        self._merged: dict[int, dict[str, Tensor]] = {}
        self._active: Expert | None = None
        for expert in experts:
            read_delta(expert, self._state)

    def at(self, images: Tensor, timestep: int) -> Tensor:
        """The answers (B, ...) on images (B, C, H, W) in [-1, 1] of the expert that owns this timestep."""
        expert = self._active
        if expert is None or timestep not in expert.timesteps:
            expert = self._owner(timestep)
            self.activate(expert)
        return self.guide(images, normalise=expert.header.input == NORMALISED)

    __call__ = at

    def activate(self, expert: Expert) -> None:
        """Put the expert's merged weights into the network."""
        key = expert.header.range_start
        if key not in self._merged:
            self._merged[key] = self._merge(expert)
        for changed in self._merged.values():
            for name in changed.keys() - self._merged[key].keys():
                self._put(name, self._state[name])
        for name, value in self._merged[key].items():
            self._put(name, value)
        self._active = expert

    @torch.inference_mode(False)
    @torch.no_grad()
    def _merge(self, expert: Expert) -> dict[str, Tensor]:
        """The expert's plain weights, merged in the precision of the off-the-shelf ones, in that of the network now."""
        delta = read_delta(expert, self._state)
        merged = adapters.merge(self._state, delta, expert.header.lora_scale)
        return {name: self._like(name, value) for name, value in merged.items()}

    def _like(self, name: str, value: Tensor) -> Tensor:
        """In the memory layout and the precision that this weight has in the network."""
        return torch.empty_like(self._state[name], dtype=self._places[name].dtype).copy_(value)

    def _put(self, name: str, value: Tensor) -> None:
        self._places[name].data = value.to(self._places[name].dtype)

    def save(self, folder: str | Path) -> None:
        """Write a safetensors file for each expert, and a card that says what they are (`ppap.load_experts` reads them).

        All or nothing; DataError if the folder cannot be written, or holds experts of a larger bank.
        """
        from ppap.experts.folder import write_bank

        write_bank(self, Path(folder))

    def off_the_shelf(self) -> dict[str, Tensor]:
        """The guide's own parameters and buffers, whichever expert is in it."""
        return self._state

    @property
    def task(self) -> Task | None:
        """What the guide, and each of its experts, says of an image."""
        return self.guide.task

    def _owner(self, timestep: int) -> Expert:
        for expert in self.experts:
            if timestep in expert.timesteps:
                return expert
        raise DataError(f"no expert covers timestep {timestep}")
