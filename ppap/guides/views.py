"""Views of latents: the picture in which a guide, made for pictures, looks at the latents of a diffusion model."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.autoencoder import Autoencoder
from ppap.guides.guide import Guide
from ppap.utils.errors import ConfigError

ViewName = Literal["linear", "decoder"]
FITTED = 64
"""Latents that a linear view is fitted to: each has hundreds of pixels."""
TRAINED = "latent_view_"
"""The prefix of a view's parameters in a guide's network; experts train them along with the network's."""


class LinearView(nn.Module):
    """A picture W z + b at the resolution of the latents z (B, c, h, w), which the guide's own resize enlarges.

    Such maps make the previews of latents that user interfaces show. `fitted` finds W (C, c) by least squares; experts
    train it along with their adapters.
    """

    def __init__(self, latent_channels: int, channels: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, latent_channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    @classmethod
    def fitted(cls, latents: Tensor, pictures: Tensor) -> LinearView:
        """Fit it to latents (N, c, h, w) and the pictures (N, C, H, W) in [-1, 1] that they decode to, made small."""
        view = cls(latents.shape[1], pictures.shape[1])
        small = F.interpolate(pictures.float(), size=latents.shape[2:], mode="area")
        z = F.pad(latents.float().movedim(1, -1).flatten(0, -2), (0, 1), value=1.0)
        solution = torch.linalg.lstsq(z.double().cpu(), small.movedim(1, -1).flatten(0, -2).double().cpu()).solution
        view.weight.data, view.bias.data = solution[:-1].T.float().contiguous(), solution[-1].float()
        return view

    def forward(self, latents: Tensor) -> Tensor:
        if latents.shape[1] != (channels := self.weight.shape[1]):
            raise ConfigError(f"view: linear, of latents with {channels} channels; these have {latents.shape[1]}")
        return F.conv2d(latents, self.weight[:, :, None, None].to(latents), self.bias.to(latents))


class DecoderView(nn.Module):
    """The picture that latents decode to, by the diffusion model's own autoencoder or a tiny one; it stays as it is."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents)


def fitted_view(name: ViewName, autoencoder: Autoencoder, latents: Tensor) -> nn.Module:
    """Make the view of this name; the linear one is fitted to these latents (N, c, h, w), `FITTED` of them."""
    if name == "decoder":
        return DecoderView(autoencoder)
    return LinearView.fitted(latents, autoencoder.decoded(latents))


def look_through(guide: Guide, view: nn.Module) -> None:
    """Have a guide look at latents through a view from now on; ConfigError if it does already."""
    if guide.view is not None:
        raise ConfigError(f"guide '{guide.name}': has a view of latents already")
    guide.view = view.to(guide.device)
    if isinstance(view, LinearView):
        for name, parameter in view.named_parameters():
            guide.network.register_parameter(TRAINED + name, parameter)
