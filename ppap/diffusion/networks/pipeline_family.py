"""The interface of the families of diffusers' pipelines (`ppap.diffusion.networks.pipeline_families`)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ppap.utils.arguments import shown
from ppap.utils.errors import ConfigError

Told = tuple[Tensor, ...]
"""A network's conditioning: tensors with one row for each image."""


class Family(ABC):
    """A pipeline of one family, asked what its network is told of prompts; facts of the family are class attributes."""

    network: ClassVar[str] = "unet"
    "The pipeline's part that predicts."
    autoencoder: ClassVar[str | None] = "vae"
    "The part that decodes latents; None for a pipeline of pixels."
    encoders: ClassVar[tuple[str, ...]] = ("tokenizer", "text_encoder")
    "The parts that encoding a prompt cannot do without."
    told_of_prompts: ClassVar[bool] = True
    "The network is told of each image a prompt, or a class."
    positive: ClassVar[tuple[int, ...]] = (0,)
    "The places, in what the pipeline's `encode_prompt` returns, of what the network is told of a prompt."
    negative: ClassVar[tuple[int, ...]] = (1,)
    "The places of the same of the negative prompt."
    packed: ClassVar[int] = 1
    "The sides of the squares of latents that the network takes as one."

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.name = pipeline, type(pipeline).__name__
        self.config: Mapping[str, Any] = getattr(pipeline, self.network).config

    @property
    def channels(self) -> int:
        """The channels of its images."""
        return int(self.config["in_channels"]) // self.packed**2

    @property
    def size(self) -> Any:
        """The height and width of its images, or one number, if nothing else is asked for."""
        return self.config.get("sample_size")

    @property
    def embeds_scale(self) -> bool:
        """True if the network is told the guidance scale, in place of classifier-free guidance."""
        return False

    @property
    def default_scale(self) -> float:
        """The guidance scale of the pipeline's own."""
        return float(inspect.signature(type(self.pipeline).__call__).parameters["guidance_scale"].default)

    @property
    def example(self) -> str | int:
        """A prompt that it can be told."""
        return "" if self.encoders else 0

    @property
    def unit(self) -> int:
        """The number that divides heights and widths."""
        return int(self.config.get("patch_size") or 1) * self.packed

    def asked(self, steps: int, height: int, width: int) -> Mapping[str, Any]:
        """Return what the pipeline says to a flow's scheduler, for so many steps and latents of this size."""
        return {}

    def told(self, prompt: str | int) -> Told:
        """Return what the network is told of a prompt, one row; ConfigError if the pipeline cannot encode it."""
        if not isinstance(prompt, str):
            raise ConfigError(f"prompts: {shown(prompt)}; {self.name} is told texts")
        return self._encoded(self.positive, prompt=prompt, do_classifier_free_guidance=False)

    def told_not(self, prompt: str | None) -> Told:
        """Return the same of the negative prompt; None is the pipeline's own default."""
        given = {} if prompt is None else {"negative_prompt": prompt}
        return self._encoded(self.negative, prompt="", do_classifier_free_guidance=True, **given)

    @abstractmethod
    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        """Ask the network about x_t (B, C, H, W) at t (B,), told this of each image."""

    def _encoded(self, places: Sequence[int], **given: Any) -> Told:
        """Encode a prompt by the pipeline's own method, with the options that its call has by default."""
        self._need_encoders()
        call, encode = (
            inspect.signature(f).parameters for f in (type(self.pipeline).__call__, self.pipeline.encode_prompt)
        )
        usual = {name: p.default for name, p in call.items() if p.default is not p.empty}
        asked = {**usual, "device": self._device, **given}
        with torch.no_grad():
            encoded = self.pipeline.encode_prompt(**{k: v for k, v in asked.items() if k in encode})
        return tuple(encoded[place] for place in places)

    def _need_encoders(self) -> None:
        for part in self.encoders:
            if getattr(self.pipeline, part, None) is None:
                raise ConfigError(f"prompts: {self.name}: {part}: the pipeline has none, and cannot encode prompts")

    @property
    def _device(self) -> torch.device:
        encoder = next((part for part in self.encoders if not part.startswith("tokenizer")), None)
        return torch.device(getattr(self.pipeline, encoder).device if encoder else "cpu")
