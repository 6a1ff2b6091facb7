"""Settings of latents: of an autoencoder that the workflow trains, and of those that a pipeline brings."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import Field, model_validator
from torch import nn

from ppap.training.settings import Training
from ppap.utils.errors import ConfigError, need, reason
from ppap.utils.settings import Count, Section

Shape = tuple[int, int, int]


class LatentsConfig(Section):
    """The latents that a pipeline draws, which its own autoencoder decodes to pictures.

    They are held against the pipeline. All networks but the diffusion model, and experts with their view of latents, see
    decoded pictures.
    """

    channels: Count = Field(4, description="channels of a latent")
    factor: Count = Field(8, description="how many times smaller its sides are than those of the picture")

    def latent_shape(self, picture: Shape) -> Shape:
        """Return the shape (c, h, w) of the latent of a picture (C, H, W)."""
        return self.channels, picture[1] // self.factor, picture[2] // self.factor


class AutoencoderConfig(Section):
    """The autoencoder of a latent diffusion model, an AutoencoderKL of diffusers (`pip install 'ppap[diffusers]'`).

    Its latents are scaled and shifted to mean 0 and variance 1. All networks but the diffusion model, and experts with
    their view of latents, see decoded pictures.
    """

    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of AutoencoderKL, but for channels of pictures"
    )
    kl_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1e-4, description="of the latents' divergence from a standard normal distribution, beside the absolute error"
    )
    train: Training = Field(description="how the workflow trains it")

    @model_validator(mode="after")
    def channels_are_the_pictures(self) -> AutoencoderConfig:
        ours = {"in_channels", "out_channels", "scaling_factor", "shift_factor"} & self.options.keys()
        if ours:
            raise ValueError(f"options.{min(ours)}: follows from the rest of the preset; leave it out")
        return self

    def latent_shape(self, picture: Shape) -> Shape:
        """Return the shape (c, h, w) of the latent of a picture (C, H, W)."""
        factor = 2 ** (len(self.options.get("block_out_channels", (64,))) - 1)
        return self.options.get("latent_channels", 4), picture[1] // factor, picture[2] // factor

    def build(self, channels: int) -> nn.Module:
        """Build the network, untrained; ConfigError if there is none with these options, or diffusers is missing."""
        need("diffusers", "diffusion.autoencoder", "diffusers")
        from diffusers import AutoencoderKL

        try:
            network = AutoencoderKL(in_channels=channels, out_channels=channels, **self.options)
        except Exception as error:  # of a library's code
            raise ConfigError(f"diffusion.autoencoder.options: make no AutoencoderKL ({reason(error)})") from error
        return cast(nn.Module, network)
