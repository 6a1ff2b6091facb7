"""GLIDE (Nichol et al. 2021, arXiv 2112.10741): U-Nets that are told a prompt, for drawing and for upsampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.classifier_free_guidance import classifier_free
from ppap.diffusion.denoiser import Network
from ppap.diffusion.networks.adm import ADM, Text
from ppap.diffusion.networks.architectures import ADMArchitecture, TextArchitecture
from ppap.diffusion.networks.sources import Upsampler
from ppap.diffusion.networks.text import TextTransformer
from ppap.diffusion.networks.tokens import Tokens
from ppap.utils.tensor_spec import Spec, of_published


class Networks(NamedTuple):
    """A U-Net and its text transformer; a public checkpoint has the weights of both, side by side."""

    unet: ADM
    transformer: TextTransformer

    @classmethod
    def new(cls, arch: ADMArchitecture, text: TextArchitecture, beside: int = 0) -> Networks:
        """Build untrained networks; `beside` is the number of channels beside the image that the U-Net takes."""
        return cls(ADM(arch, text.width, beside), TextTransformer(text, 4 * arch.model_channels))

    @property
    def spec(self) -> Spec:
        """The description of their checkpoint."""
        return {name: spec for network in self for name, spec in of_published(network).items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of a checkpoint as described, in float32."""
        for network in self:
            names = network.state_dict().keys()
            copies = {name: tensors[name].to(torch.float32, copy=True) for name in names}
            network.load_state_dict(copies, assign=True)

    @torch.no_grad()
    def told(self, *prompts: Tokens) -> Text:
        """Return these prompts as the U-Net is told of them."""
        tokens, masks = (torch.cat(parts) for parts in zip(*prompts, strict=True))
        return self.transformer(Tokens(tokens, masks))


class _Told(nn.Module):
    """A U-Net with a text that moves with it, and is no weight."""

    def __init__(self, unet: ADM, text: Text) -> None:
        super().__init__()
        self.unet = unet
        for name, value in text._asdict().items():
            self.register_buffer(name, value, persistent=False)

    @property
    def text(self) -> Text:
        return Text(*(self.get_buffer(name) for name in Text._fields))


class Prompted(_Told):
    """A U-Net with its prompt, called as network(x_t, t).

    Told two texts, a prompt and the empty one, it guides eps towards the prompt without a classifier; told one text,
    it predicts by that alone.
    """

    def __init__(self, unet: ADM, text: Text, scale: float) -> None:
        super().__init__(unet, text)
        self.scale = scale

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        text = self.text
        if len(text.vector) == 1:
            return self.unet(x, t, text)
        prompt, empty = self.unet(torch.cat([x, x]), torch.cat([t, t]), text).float().chunk(2)
        return classifier_free(prompt, empty, x.shape[1], self.scale)


class PromptedUpsampler(_Told, Upsampler):
    """A U-Net with its prompt that sees, beside x_t, smaller images of what x_0 is to be."""

    def forward(self, x: Tensor, t: Tensor, low_res: Tensor) -> Tensor:
        beside = F.interpolate(low_res, x.shape[-2:], mode="bilinear")
        return self.unet(torch.cat([x, beside], dim=1), t, self.text)

    def upsampling(self, low_res: Tensor) -> Network:
        return lambda x, t: self(x, t, low_res)
