"""Experts on disk, and the bank that puts the one that owns a timestep into the guide."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppap import adapters, files
from ppap.config import Config
from ppap.errors import DataError
from ppap.guides import Guide

NORMALISED, UNNORMALISED = "normalised", "unnormalised"


class Expert(NamedTuple):
    """One expert on disk: what differs from the off-the-shelf model, and what it was made for."""

    path: Path
    timesteps: range
    metadata: dict[str, str]

    @property
    def input(self) -> str:
        """What its network sees: "normalised" like the off-the-shelf model, or "unnormalised" [-1, 1]."""
        return self.metadata.get("input", NORMALISED)


def read_expert(path: Path) -> Expert:
    """The header of an expert file; DataError if it is not one."""
    metadata = files.read_metadata(path)
    try:
        low, high = int(metadata["range_start"]), int(metadata["range_stop"])
    except (KeyError, ValueError):
        raise DataError(f"{path}: not an expert (its metadata lacks a noise range)") from None
    return Expert(path, range(low, high), metadata)


def check_experts(experts: list[Expert], expected: dict[str, str], ranges: list[range]) -> None:
    """DataError unless all were made for this guide, T and schedule, for these ranges, and see alike input."""
    for expert in experts:
        for key, value in expected.items():
            if expert.metadata.get(key) != value:
                raise DataError(
                    f"{expert.path}: made for {key} {expert.metadata.get(key)}, the run has {value}"
                )
        if expert.input != experts[0].input:
            raise DataError(
                f"{expert.path}: sees {expert.input} input, {experts[0].path} {experts[0].input}"
            )
    for expert, wanted in zip(experts, ranges, strict=False):
        if expert.timesteps != wanted:
            found = f"[{expert.timesteps.start}, {expert.timesteps.stop})"
            raise DataError(
                f"{expert.path}: covers timesteps {found}, the run needs [{wanted.start}, {wanted.stop})"
            )
    if len(experts) != len(ranges):
        raise DataError(f"{len(experts)} expert files for {len(ranges)} noise ranges")


class ExpertBank:
    """A guide whose weights are swapped, in place, for those of the expert that owns a timestep.

    Adapters are merged into plain weights once per range; there is one network, and one copy of the
    off-the-shelf values of what the experts change.
    """

    def __init__(self, guide: Guide, experts: list[Expert]) -> None:
        self.guide, self.experts = guide, experts
        self._state = guide.network.state_dict()
        self._base: dict[str, Tensor] = {}
        self._active: Expert | None = None

    def __call__(self, images: Tensor, timestep: int) -> Tensor:
        expert = self._active
        if expert is None or timestep not in expert.timesteps:
            expert = self._owner(timestep)
            self.activate(expert)
        return self.guide(images, normalise=expert.input == NORMALISED)

    @torch.no_grad()
    def activate(self, expert: Expert) -> None:
        """Put the expert's merged weights into the network."""
        delta = files.read_tensors(expert.path)
        for name in adapters.changed_names(delta):
            if name not in self._state:
                raise DataError(f"{expert.path}: the guide has no parameter '{name}'")
            self._base.setdefault(name, self._state[name].clone())
        merged = self._base | adapters.merge(
            self._base, delta, float(expert.metadata["lora_scale"])
        )
        for name, value in merged.items():
            if value.shape != self._state[name].shape:
                raise DataError(
                    f"{expert.path}: {name} has shape {tuple(value.shape)}, the guide's has "
                    f"{tuple(self._state[name].shape)}"
                )
            self._state[name].copy_(value)
        self._active = expert

    def _owner(self, timestep: int) -> Expert:
        for expert in self.experts:
            if timestep in expert.timesteps:
                return expert
        raise DataError(f"no expert covers timestep {timestep}")


def bank_identity(config: Config, guide: str, weights: Path) -> dict[str, str]:
    """What an expert must have been made for, to be used with this guide and schedule."""
    return {
        "guide": config.guides[guide].model,
        "guide_sha256": files.sha256(weights),
        "timesteps": str(config.diffusion.timesteps),
        "noise_schedule": config.diffusion.noise_schedule,
    }
