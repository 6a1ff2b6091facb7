"""Hyper-parameters of the diffusion networks that are built here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ppap.utils.settings import Count, Section

Width = Annotated[int, Field(gt=0, le=1024)] | Annotated[float, Field(gt=0, le=1024)]


class ADMArchitecture(Section):
    """The ADM U-Net. The defaults are those of the public 256x256 unconditional model; GLIDE's stages have their own."""

    in_channels: Count = Field(3, description="channels of an image")
    model_channels: Annotated[int, Field(ge=2, le=65_536)] = Field(256, description="channels at full resolution")
    channel_mult: tuple[Width, ...] = Field(
        (1, 1, 2, 2, 4, 4), min_length=1, max_length=12, description="channels of each resolution, times model_channels"
    )
    num_res_blocks: Annotated[int, Field(gt=0, le=100)] = Field(2, description="residual blocks per resolution")
    attention_factors: tuple[Count, ...] = Field(
        (8, 16, 32), description="downsampling factors with self-attention: powers of two that the network has"
    )
    head_channels: Count = Field(
        64,
        description="channels of an attention head; divides those of every resolution with self-attention "
        "(the lowest always has it)",
    )
    num_heads: Count | None = Field(None, description="heads of each self-attention, in place of `head_channels`")
    resblock_updown: bool = Field(
        True, description="residual blocks change the resolution; `false`: plain convolutions do"
    )
    use_scale_shift_norm: bool = Field(
        True, description="the timestep scales and shifts a norm; `false`: it is added before that norm"
    )
    use_new_attention_order: bool = Field(
        False, description="channels are divided into q, k and v first, and then by heads"
    )
    norm_groups: Count = Field(32, description="groups of the group norms; divides the channels of every resolution")
    learn_sigma: bool = Field(True, description="the network predicts the variance too; not with `train`")

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def widths(self) -> list[int]:
        """The channels of each resolution."""
        return [int(self.model_channels * m) for m in self.channel_mult]

    @model_validator(mode="after")
    def channels_divide(self) -> ADMArchitecture:
        widths, key = self.widths, "num_heads" if self.num_heads else "head_channels"
        if self.num_heads and "head_channels" in self.model_fields_set:
            raise ValueError("num_heads: stands in place of head_channels; give one of them")
        odd = [width for width in widths if not width or width % self.norm_groups]
        if odd:
            raise ValueError(f"norm_groups: {self.norm_groups} does not divide {odd[0]} channels")
        factors = [2**level for level in range(len(widths))]
        unknown = [factor for factor in self.attention_factors if factor not in factors]
        if unknown:
            raise ValueError(f"attention_factors: {unknown[0]} is no resolution of the network; those are {factors}")
        attended = [w for w, f in zip(widths, factors, strict=True) if f in self.attention_factors]
        divisor = self.num_heads or self.head_channels
        odd = [width for width in (*attended, widths[-1]) if width % divisor]
        if odd:
            raise ValueError(f"{key}: {divisor} does not divide {odd[0]} channels")
        return self


class TextArchitecture(Section):
    """GLIDE's text transformer. The defaults are those of the public checkpoints."""

    context: Annotated[int, Field(gt=0, le=4096)] = Field(128, description="tokens of a prompt, at most")
    width: Annotated[int, Field(gt=0, le=65_536)] = Field(512, description="channels")
    layers: Annotated[int, Field(gt=0, le=100)] = Field(16, description="residual blocks")
    heads: Count = Field(8, description="attention heads of a block")

    @model_validator(mode="after")
    def heads_divide(self) -> TextArchitecture:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide {self.width} channels")
        return self
