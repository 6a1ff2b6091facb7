"""Families of diffusers' pipelines: what the network of each is told beside x_t and t, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppap.diffusion.networks.pipeline_family import Family, Told
from ppap.utils.arguments import shown
from ppap.utils.errors import ConfigError


class StableDiffusion(Family):
    """Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752)."""

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        return network(x, t, encoder_hidden_states=told[0], return_dict=False)[0]


class DeepFloyd(StableDiffusion):
    """DeepFloyd IF's first stage, of pixels, in the manner of Imagen (Saharia et al. 2022, arXiv 2205.11487)."""

    autoencoder = None


class LatentDiffusion(StableDiffusion):
    """The text-to-image model of latent diffusion, whose prompts are encoded by a BERT."""

    autoencoder, encoders = "vqvae", ("tokenizer", "bert")

    def told(self, prompt: str | int) -> Told:
        if not isinstance(prompt, str):
            return super().told(prompt)
        self._need_encoders()
        tokens = self.pipeline.tokenizer(
            [prompt], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            return (self.pipeline.bert(tokens.input_ids.to(self._device))[0],)

    def told_not(self, prompt: str | None) -> Told:
        return self.told(prompt or "")


class Unconditional(Family):
    """Latent diffusion without prompts, with its quantising autoencoder."""

    autoencoder, told_of_prompts = "vqvae", False

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        raise AssertionError("its network is called as network(x_t, t)")


class StableDiffusionXL(Family):
    """Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952): it is told the picture's size, uncropped."""

    encoders = ("tokenizer_2", "text_encoder_2")
    positive, negative = (0, 2), (1, 3)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        height, width = (side * self.pipeline.vae_scale_factor for side in x.shape[2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=x.dtype, device=x.device)
        beside = {"text_embeds": told[1], "time_ids": sizes.expand(len(x), -1)}
        return network(x, t, encoder_hidden_states=told[0], added_cond_kwargs=beside, return_dict=False)[0]


class StableDiffusion3(Family):
    """Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206), a flow."""

    network = "transformer"
    encoders = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    positive, negative = (0, 2), (1, 3)

    def asked(self, steps: int, height: int, width: int) -> Mapping[str, Any]:
        tokens = (height // self.unit) * (width // self.unit)
        about = self.pipeline.scheduler.config
        return {"mu": _shift(about, tokens, 1.16)} if about.get("use_dynamic_shifting") else {}

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        return network(
            hidden_states=x, timestep=t, encoder_hidden_states=told[0], pooled_projections=told[1], return_dict=False
        )[0]


class Packed(Family):
    """Flows on latents that are packed 2 by 2, whose levels shift by the size of the picture."""

    network, packed = "transformer", 2

    @property
    def size(self) -> Any:
        return self.pipeline.default_sample_size

    @property
    def unit(self) -> int:
        return self.packed

    def asked(self, steps: int, height: int, width: int) -> Mapping[str, Any]:
        about = self.pipeline.scheduler.config
        sigmas = {} if about.get("use_flow_sigmas") else {"sigmas": np.linspace(1, 1 / steps, steps)}
        return sigmas | {"mu": _shift(about, (height // 2) * (width // 2), 1.15)}


class Flux(Packed):
    """FLUX.1: [dev] is told the guidance scale, others are guided by a second prompt."""

    encoders = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    positive = (0, 1)

    @property
    def embeds_scale(self) -> bool:
        return bool(self.config["guidance_embeds"])

    @property
    def default_scale(self) -> float:
        return super().default_scale if self.embeds_scale else 1.0

    def told_not(self, prompt: str | None) -> Told:
        return self.told(prompt or "")

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        answer = network(
            hidden_states=_packed(x), timestep=t / 1000, pooled_projections=told[1], encoder_hidden_states=told[0],
            guidance=torch.full((len(x),), scale, device=x.device) if self.embeds_scale else None,
            txt_ids=torch.zeros(told[0].shape[1], 3).to(x), img_ids=_places(x), return_dict=False,
        )[0]  # fmt: skip
        return _unpacked(answer, x)


class Chroma(Packed):
    """Chroma, made of FLUX.1: guided by a second prompt, of one text encoder, whose padding the network leaves out."""

    positive, negative = (0, 2), (3, 5)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        packed = _packed(x)
        seen = torch.cat([told[1], torch.ones(packed.shape[:2], dtype=torch.bool, device=x.device)], dim=1)
        answer = network(
            hidden_states=packed, timestep=t / 1000, encoder_hidden_states=told[0], attention_mask=seen,
            txt_ids=torch.zeros(told[0].shape[1], 3).to(x), img_ids=_places(x), return_dict=False,
        )[0]  # fmt: skip
        return _unpacked(answer, x)


class AuraFlow(Family):
    """AuraFlow, a flow on the latents of Stable Diffusion XL."""

    network = "transformer"
    positive, negative = (0,), (2,)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        return network(x, encoder_hidden_states=told[0], timestep=t / 1000, return_dict=False)[0]


class DiT(Family):
    """Diffusion transformers (Peebles & Xie 2023, arXiv 2212.09748): a prompt is a class, its number or its name."""

    network, encoders = "transformer", ()

    def told(self, prompt: str | int) -> Told:
        numbered = int(prompt) if not isinstance(prompt, str) or prompt.isdecimal() else None
        number = self.pipeline.labels.get(prompt, numbered)
        if number is None or not 0 <= number < self._classes:
            raise ConfigError(
                f"prompts: {shown(prompt)}; a class from 0 to {self._classes - 1}, or its name, was expected"
            )
        return (torch.tensor([number]),)

    def told_not(self, prompt: str | None) -> Told:
        if prompt is not None:
            raise ConfigError(f"negative_prompt: {shown(prompt)}; {self.name} has classes, and none against them")
        return (torch.tensor([self._classes]),)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        return network(x, timestep=t, class_labels=told[0], return_dict=False)[0]

    @property
    def _classes(self) -> int:
        return int(self.config["num_embeds_ada_norm"])


class PixArt(Family):
    """PixArt-alpha and -sigma (Chen et al. 2023, arXiv 2310.00426); the first is told the size of large pictures."""

    network = "transformer"
    positive, negative = (0, 1), (2, 3)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        beside: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.name == "PixArtAlphaPipeline" and self.config["sample_size"] == 128:
            height, width = (side * self.pipeline.vae_scale_factor for side in x.shape[2:])
            beside["resolution"] = torch.tensor([[height, width]]).to(x).expand(len(x), -1)
            beside["aspect_ratio"] = torch.tensor([[height / width]]).to(x).expand(len(x), -1)
        return network(
            x, encoder_hidden_states=told[0], encoder_attention_mask=told[1], timestep=t,
            added_cond_kwargs=beside, return_dict=False,
        )[0]  # fmt: skip


class Sana(Family):
    """Sana (Xie et al. 2024, arXiv 2410.10629), a flow on latents of a deeply compressing autoencoder."""

    network = "transformer"
    positive, negative = (0, 1), (2, 3)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, told: Sequence[Tensor], scale: float) -> Tensor:
        return network(
            x, encoder_hidden_states=told[0], encoder_attention_mask=told[1],
            timestep=t * self.config["timestep_scale"], return_dict=False,
        )[0]  # fmt: skip


def _packed(x: Tensor) -> Tensor:
    """Pack latents (B, C, H, W) 2 by 2 to tokens (B, H W / 4, 4 C)."""
    count, channels, height, width = x.shape
    squares = x.reshape(count, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _unpacked(tokens: Tensor, x: Tensor) -> Tensor:
    """Return the latents, like x, of such tokens."""
    count, channels, height, width = x.shape
    squares = tokens.reshape(count, height // 2, width // 2, channels, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def _places(x: Tensor) -> Tensor:
    """Return the place of each token of packed latents, (H W / 4, 3): 0, its row and its column."""
    grid = torch.cartesian_prod(*(torch.arange(side // 2) for side in x.shape[2:]))
    return torch.cat([torch.zeros(len(grid), 1), grid], dim=1).to(x)


def _shift(scheduler: Mapping[str, Any], tokens: int, most: float) -> float:
    """Return mu, the logarithm of the shift of a flow's sigmas, by the number of tokens: a line through two points."""
    (few, least), (many, most) = (
        (scheduler.get("base_image_seq_len", 256), scheduler.get("base_shift", 0.5)),
        (scheduler.get("max_image_seq_len", 4096), scheduler.get("max_shift", most)),
    )
    return float(least + (most - least) * (tokens - few) / (many - few))


FAMILIES: dict[str, type[Family]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "ChromaPipeline": Chroma,
    "AuraFlowPipeline": AuraFlow,
    "DiTPipeline": DiT,
    "PixArtAlphaPipeline": PixArt,
    "PixArtSigmaPipeline": PixArt,
    "SanaPipeline": Sana,
    "LDMPipeline": Unconditional,
    "LDMTextToImagePipeline": LatentDiffusion,
    "IFPipeline": DeepFloyd,
}
"""The families by the class of the pipeline."""
