"""The bank of experts: a guide into which the expert that was trained on the noise of an image is put."""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ppap.diffusion.autoencoder import Autoencoder, LatentSpace
from ppap.diffusion.guidance import Sees
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.noise_ranges import LIMIT
from ppap.diffusion.schedules import Array
from ppap.experts import lora
from ppap.experts.expert import Expert, read_delta
from ppap.experts.folder import folder_of, push_experts, read_experts, write_experts
from ppap.guides.guide import Guide
from ppap.guides.recipe import GuideRecipe, guide_for, shared_name
from ppap.guides.views import TRAINED, DecoderView, LinearView, look_through
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.tensor_spec import REMEDY

_UNSEEN = 7.82  # log-SNR of sigma 0.02; of alpha 0.02 it is -7.82


@checked
class ExpertBank:
    """A guide whose weights are exchanged for those of the expert that was trained on the noise of the images.

    It goes by the noise's level, log(abar / (1 - abar)), whatever the schedule that the images come from. There is one
    network. Each expert's adapters are merged into plain weights once, when its range is first reached;
    these stay in memory, and to exchange them copies nothing. The guide may be moved, or cast to another precision,
    at any time. Experts of latents look at them through their view, of which `decoder` needs the `autoencoder`.
    DataError if an expert does not fit the guide: at once, rather than when its range is reached.
    """

    def __init__(self, guide: Guide, experts: list[Expert], autoencoder: Autoencoder | None = None) -> None:
        if not experts:
            raise DataError("experts: a bank has one at least")
        self.guide, self.experts = guide, [expert.placed() for expert in experts]
        _look_as(guide, experts[0], autoencoder)
        places = self._places()
        self.off_the_shelf = {name: places[name].data for name in guide.network.state_dict()}
        self._merged: dict[int, dict[str, Tensor]] = {}
        self._active: Expert | None = None
        self._buffers = {name for name, _ in guide.network.named_buffers()}
        for expert in experts:
            read_delta(expert, self.off_the_shelf, self._buffers)

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        """Return the answers (B, ...) of the expert of this noise, log(abar / (1 - abar)), on what it sees (B, C, H, W):
        x_t, or the estimate of x_0, images in [-1, 1] or latents.

        That of a timestep is `schedule.log_snr[t]`. Beyond the noise that a bank was trained on its outermost expert
        answers if no image (alpha < 0.02), or no noise (sigma < 0.02), was left to be seen there; else DataError.
        """
        expert = self._owner(log_snr)
        if expert is not self._active:
            self.activate(expert)
        return self.guide(images, normalise=expert.header.input == "normalised")

    __call__ = at

    @property
    def sees(self) -> Sees:
        """The input that its experts look at."""
        return self.experts[0].header.sees or "x_t"

    def check(
        self, log_snrs: Iterable[float], betas: Array, autoencoder: Autoencoder | None = None, predicts: str = "eps"
    ) -> None:
        """Raise DataError if no expert was trained on the noise of one of these levels, or if they see other latents.

        Files before version 0.4 that name an unknown schedule learn their noise by these `betas` (T,), if it is theirs.
        """
        first, space = self.experts[0], None if autoencoder is None else autoencoder.space
        if first.header.latents != space:
            raise DataError(f"{first.path}: was trained on {_said(first.header.latents)}, not on {_said(space)}")
        if first.header.predicts not in (None, predicts):
            raise DataError(
                f"{first.path}: sees estimates of a network that predicts {first.header.predicts}, not {predicts}"
            )
        self.experts = [expert.placed(betas) for expert in self.experts]
        for log_snr in log_snrs:
            self._owner(log_snr)

    @torch.inference_mode(False)
    @torch.no_grad()
    def activate(self, expert: Expert) -> None:
        """Put the expert's merged weights into the network."""
        places, key = self._places(), expert.header.range_start
        if key not in self._merged:
            self._merged[key] = self._merge(expert, places)
        others = {name for merged in self._merged.values() for name in merged}
        weights = {name: self.off_the_shelf[name] for name in others} | self._merged[key]
        for name, value in weights.items():
            places[name].data = value.to(places[name])
        self._active = expert

    def save(self, folder: str | Path) -> None:
        """Write a safetensors file for each expert, the recipe of their guide, and a card that says what they are.

        `ppap.load_experts` reads the folder, which is a model repository as the Hugging Face hub has them. Of a guide
        from a folder they say no path, but the model's name. All or nothing; DataError if the folder cannot be written, or
        holds experts of a larger bank.
        """
        name, state = shared_name(self.experts[0].header.guide), _hash(self.off_the_shelf)
        experts = [expert.made_of(name, state) for expert in self.experts]
        write_experts(experts, Path(folder), GuideRecipe.of(self.guide))

    def push_to_hub(self, name: str, *, private: bool | None = None) -> str:
        """Save the bank as the model repository USER/NAME of the Hugging Face hub, and return its address.

        It is made if it is not there, by default as the user's account has it; experts that it held are replaced.
        DataError if the hub cannot be reached, or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            return push_experts(Path(folder), name, private)

    def _places(self) -> dict[str, Tensor]:
        """Find the network's parameters and buffers as they are now: to move or cast it replaces buffers."""
        network = self.guide.network
        return {
            **dict(network.named_parameters(remove_duplicate=False)),
            **dict(network.named_buffers(remove_duplicate=False)),
        }

    def _merge(self, expert: Expert, places: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merge in the precision of the off-the-shelf weights; return in that of the network, and its memory layout."""
        delta = read_delta(expert, self.off_the_shelf, self._buffers)
        merged = lora.merge(self.off_the_shelf, delta, expert.header.lora_scale)
        return {
            name: torch.empty_like(
                self.off_the_shelf[name], dtype=places[name].dtype, device=places[name].device
            ).copy_(value)
            for name, value in merged.items()
        }

    def _owner(self, log_snr: float) -> Expert:
        if LIMIT < abs(log_snr) < math.inf:
            raise DataError(f"{log_snr} is no log-SNR; that of timestep t is schedule.log_snr[t]")
        known = [(*expert.log_snr, expert) for expert in self.experts if expert.log_snr is not None]
        if len(known) < len(self.experts):
            first = self.experts[0]
            raise DataError(
                f"{first.path}: does not say the noise it was trained on, and '{first.header.noise_schedule}' is no known "
                "schedule; draw by the diffusion model of its training"
            )
        for low, high, expert in known:
            if low <= log_snr <= high:
                return expert
        (least, _, noisiest), (_, greatest, cleanest) = min(known, key=lambda e: e[0]), max(known, key=lambda e: e[1])
        if log_snr < least < -_UNSEEN:
            return noisiest
        if log_snr > greatest > _UNSEEN:
            return cleanest
        raise DataError(
            f"guide '{self.guide.name}': no expert was trained on noise of log-SNR {log_snr:.2f}; they know "
            f"{least:.2f} to {greatest:.2f}"
        )


def _look_as(guide: Guide, expert: Expert, autoencoder: Autoencoder | None) -> None:
    """Give a guide of pictures the view of latents that an expert has."""
    if expert.header.view is None or guide.view is not None:
        return
    if expert.header.view == "linear":
        weight = expert.tensors().get(f"{TRAINED}weight")
        if weight is None or weight.ndim != 2:
            raise DataError(f"{expert.path}: lacks its linear view of latents; {REMEDY}")
        look_through(guide, LinearView(weight.shape[1], weight.shape[0]))
    elif autoencoder is None:
        raise DataError(f"{expert.path}: looks at latents through their decoder; give the diffusion model too")
    elif expert.header.view_sha256 not in (None, seen := autoencoder.space.decoder_sha256):
        raise DataError(f"{expert.path}: looks through the decoder {expert.header.view_sha256}, not through {seen}")
    else:
        look_through(guide, DecoderView(autoencoder))


def _said(space: LatentSpace | None) -> str:
    if space is None:
        return "pixels"
    return f"latents of scale {space.scale}, shift {space.shift} and decoder {space.decoder_sha256}"


@checked
def load_experts(
    folder: str | Path,
    guide: Guide | None = None,
    model: DiffusionModel | None = None,
    view: Autoencoder | None = None,
    *,
    weights: str | Path | None = None,
    downloads: str | Path = "downloads",
) -> ExpertBank:
    """Load the bank that `ExpertBank.save`, `push_to_hub` or the workflow wrote, for the guide that it was made of.

    It lies in a `folder`, or on the Hugging Face hub as "USER/NAME" or "USER/NAME@REVISION" (a branch, a tag or a
    commit), from where it is fetched into `downloads`. The `guide`, which stays as it is, may be left out if it is a
    model of a library: it is made as the folder says, with the library's weights, or with those in the file `weights`
    (of transformers, a folder). A hash tells whether they are the right ones. Tensors and texts alone are read; code of
    others is never run. Experts that look at latents through their decoder need the diffusion `model`, whose autoencoder
    that is, or the `view` that they were trained with. DataError if an expert is missing, was made for another guide, or
    cannot be had.
    """
    place = folder_of(folder, downloads)
    experts = read_experts(place)
    if guide is None:
        guide = guide_for(place, experts[0].header.guide, weights, downloads)
    elif weights is not None:
        raise ConfigError("weights: leave them out, or the guide, which has its own")
    state = state_hash(guide)
    for expert in experts:
        if expert.header.guide_state not in (None, state):
            raise DataError(f"{expert.path}: made of another guide than '{guide.name}'")
    return ExpertBank(copy.deepcopy(guide), experts, view or (model.autoencoder if model else None))


def state_hash(guide: Guide) -> str:
    """Return a hash of the guide's parameters and buffers; ConfigError if some are no tensors."""
    state = guide.network.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.is_quantized:
            raise ConfigError(f"guide '{guide.name}': its {name} is no plain tensor (a quantised network?)")
    return _hash(state)


def _hash(state: Mapping[str, Tensor]) -> str:
    """Hash a guide's state without a view of latents, which is its experts'."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if not name.startswith(TRAINED):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
