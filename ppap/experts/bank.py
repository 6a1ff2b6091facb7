"""The bank of experts: a guide into which the expert that owns a timestep is put."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import torch
from torch import Tensor

from ppap.experts import lora
from ppap.experts.expert import Expert, read_delta
from ppap.experts.folder import read_experts, write_experts
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Task
from ppap.utils.errors import ConfigError, DataError


class ExpertBank:
    """A guide whose weights are exchanged for those of the expert that owns a timestep.

    There is one network. Each expert's adapters are merged into plain weights once, when its range is first reached;
    these stay in memory, and to exchange them copies nothing. The guide may be moved, or cast to another precision,
    at any time. DataError if an expert does not fit the guide: at once, rather than when its range is reached.
    """

    def __init__(self, guide: Guide, experts: list[Expert]) -> None:
        self.guide, self.experts = guide, experts
        places = self._places()
        self._state = {name: places[name].data for name in guide.network.state_dict()}
        self._merged: dict[int, dict[str, Tensor]] = {}
        self._active: Expert | None = None
        self._buffers = {name for name, _ in guide.network.named_buffers()}
        for expert in experts:
            self._delta(expert)

    def at(self, images: Tensor, timestep: int) -> Tensor:
        """Return the answers (B, ...) on images (B, C, H, W) in [-1, 1] of the expert that owns this timestep."""
        expert = self._active
        if expert is None or timestep not in expert.timesteps:
            expert = self._owner(timestep)
            self.activate(expert)
        return self.guide(images, normalise=expert.header.input == "normalised")

    __call__ = at

    @torch.inference_mode(False)
    @torch.no_grad()
    def activate(self, expert: Expert) -> None:
        """Put the expert's merged weights into the network."""
        places, key = self._places(), expert.header.range_start
        if key not in self._merged:
            self._merged[key] = self._merge(expert, places)
        others = {name for merged in self._merged.values() for name in merged}
        weights = {name: self._state[name] for name in others} | self._merged[key]
        for name, value in weights.items():
            places[name].data = value.to(places[name])
        self._active = expert

    def save(self, folder: str | Path) -> None:
        """Write a safetensors file for each expert, and a card that says what they are (`ppap.load_experts` reads them).

        All or nothing; DataError if the folder cannot be written, or holds experts of a larger bank.
        """
        write_experts(self.experts, Path(folder))

    def off_the_shelf(self) -> dict[str, Tensor]:
        """Return the guide's own parameters and buffers, whichever expert is in it."""
        return self._state

    @property
    def task(self) -> Task | None:
        """The guide's task, which is that of each expert."""
        return self.guide.task

    def _places(self) -> dict[str, Tensor]:
        """Find the network's parameters and buffers as they are now: to move or cast it replaces buffers."""
        network = self.guide.network
        return {
            **dict(network.named_parameters(remove_duplicate=False)),
            **dict(network.named_buffers(remove_duplicate=False)),
        }

    def _merge(self, expert: Expert, places: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merge in the precision of the off-the-shelf weights; return in that of the network, and its memory layout."""
        merged = lora.merge(self._state, self._delta(expert), expert.header.lora_scale)
        return {
            name: torch.empty_like(self._state[name], dtype=places[name].dtype, device=places[name].device).copy_(value)
            for name, value in merged.items()
        }

    def _delta(self, expert: Expert) -> dict[str, Tensor]:
        return read_delta(expert, self._state, self._buffers)

    def _owner(self, timestep: int) -> Expert:
        for expert in self.experts:
            if timestep in expert.timesteps:
                return expert
        raise DataError(f"no expert covers timestep {timestep}")


def load_experts(folder: str | Path, guide: Guide) -> ExpertBank:
    """Load the bank that `ExpertBank.save`, or the workflow, wrote to a folder, for the guide that it was made of.

    DataError if an expert is missing, or was made for another guide. The guide itself stays as it is.
    """
    experts = read_experts(Path(folder))
    state = state_hash(guide)
    for expert in experts:
        if expert.header.guide_state not in (None, state):
            raise DataError(f"{expert.path}: made of another guide than '{guide.name}'")
    return ExpertBank(copy.deepcopy(guide), experts)


def state_hash(guide: Guide) -> str:
    """Return a hash of the guide's parameters and buffers; ConfigError if some are no tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(guide.network.state_dict().items()):
        if not isinstance(value, Tensor) or value.is_quantized:
            raise ConfigError(f"guide '{guide.name}': its {name} is no plain tensor (a quantised network?)")
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
