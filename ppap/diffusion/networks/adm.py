"""The ADM U-Net (Dhariwal & Nichol 2021, arXiv 2105.05233), with the names of the public checkpoints.

GLIDE (Nichol et al. 2021, arXiv 2112.10741) has it with text besides.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.networks.architectures import ADMArchitecture


class Text(NamedTuple):
    """n texts as the U-Net is told of them: each goes with (batch / n) images in a row.

    `vector` (n, 4 * model_channels) is added to the timestep embedding; `states` (n, width, length) are attended to.
    """

    vector: Tensor
    states: Tensor


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Embed timesteps t (B,) as (B, dim), sinusoidally: cosines first, wavelengths up to 10,000."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10000) / half))
    angles = t[:, None].float() * frequencies  # (B, half)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, dim % 2))


class ResBlock(nn.Module):
    """Residual block; `resample` halves ("down") or doubles ("up") the resolution.

    With `scale_shift` the timestep scales and shifts what the second norm gives, else it is added before that norm.
    """

    def __init__(
        self, channels: int, out: int, emb: int, groups: int, scale_shift: bool, resample: str | None = None
    ) -> None:
        super().__init__()
        self.scale_shift, self.resample = scale_shift, resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out),
            nn.SiLU(),
            nn.Identity(),  # the checkpoints count a dropout here
            _zero(nn.Conv2d(out, out, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, kernel_size=1)

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:
        norm, act, conv = self.in_layers
        h = act(norm(x))
        if self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif self.resample == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h, told = conv(h), self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
        else:
            h = self.out_layers[0](h + told)
        return self.skip_connection(x) + self.out_layers[1:](h)


class Downsample(nn.Module):
    """Half the resolution, by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the resolution, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2))


class AttentionBlock(nn.Module):
    """Attention of the pixels to one another, and to a text of `text_width` channels if there is one.

    The channels of q, k and v are divided by heads first, as in ADM's legacy order, or by q, k and v (`new_order`).
    """

    def __init__(
        self, channels: int, heads: int, groups: int, new_order: bool = False, text_width: int | None = None
    ) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        if text_width is not None:
            self.encoder_kv = nn.Conv1d(text_width, 2 * channels, kernel_size=1)
        self.proj_out = _zero(nn.Conv1d(channels, channels, kernel_size=1))

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:
        b, c, h, w = x.shape
        flat = x.reshape(b, c, h * w)
        q, k, v = self._parts(self.qkv(self.norm(flat)), 3)
        if text is not None:
            text_k, text_v = self._parts(_for_batch(self.encoder_kv(text), b), 2)
            k, v = torch.cat([text_k, k], dim=2), torch.cat([text_v, v], dim=2)
        out = F.scaled_dot_product_attention(q, k, v)
        out = out.transpose(-1, -2).reshape(b, c, h * w)
        return (flat + self.proj_out(out)).reshape(b, c, h, w)

    def _parts(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        """Divide (B, count * C, L) into tensors (B, heads, L, C / heads)."""
        divided = (count, self.heads) if self.new_order else (self.heads, count)
        parts = x.reshape(len(x), *divided, x.shape[1] // (count * self.heads), x.shape[2])
        return parts.transpose(-1, -2).unbind(dim=1 if self.new_order else 2)


class Conv(nn.Conv2d):
    """The first convolution, called as the blocks are."""

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Stage(nn.Sequential):
    """Blocks in a row; each sees the timestep embedding, and the text if there is one."""

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, emb, text)
        return x


class ADM(nn.Module):
    """U-Net: x_t (B, C, H, W) in [-1, 1] scale and t (B,) in [0, T) to eps, or eps and v, (B, C or 2C, H, W).

    With a `text_width` it is called with a Text besides; `beside` channels more than C come in with x_t. It embeds
    t times `time_scale`.
    """

    def __init__(
        self, arch: ADMArchitecture, text_width: int | None = None, beside: int = 0, time_scale: float = 1
    ) -> None:
        super().__init__()
        self.arch, self.time_scale = arch, time_scale
        emb = 4 * arch.model_channels
        self.time_embed = nn.Sequential(nn.Linear(arch.model_channels, emb), nn.SiLU(), nn.Linear(emb, emb))

        def res(channels: int, out: int, resample: str | None = None) -> ResBlock:
            return ResBlock(channels, out, emb, arch.norm_groups, arch.use_scale_shift_norm, resample)

        def resampled(channels: int, how: str) -> nn.Module:
            if arch.resblock_updown:
                return res(channels, channels, how)
            return Downsample(channels) if how == "down" else Upsample(channels)

        def attend(channels: int) -> AttentionBlock:
            heads = arch.num_heads or channels // arch.head_channels
            return AttentionBlock(channels, heads, arch.norm_groups, arch.use_new_attention_order, text_width)

        widths = arch.widths
        channels, factor = widths[0], 1
        seen = arch.in_channels + beside
        self.input_blocks = nn.ModuleList([Stage(Conv(seen, channels, 3, padding=1))])
        skips = [channels]
        for level, width in enumerate(widths):
            for _ in range(arch.num_res_blocks):
                attention = [attend(width)] if factor in arch.attention_factors else []
                self.input_blocks.append(Stage(res(channels, width), *attention))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.input_blocks.append(Stage(resampled(channels, "down")))
                skips.append(channels)
                factor *= 2

        self.middle_block = Stage(res(channels, channels), attend(channels), res(channels, channels))

        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for i in range(arch.num_res_blocks + 1):
                blocks: list[nn.Module] = [res(channels + skips.pop(), width)]
                channels = width
                if factor in arch.attention_factors:
                    blocks.append(attend(channels))
                if level > 0 and i == arch.num_res_blocks:
                    blocks.append(resampled(channels, "up"))
                    factor //= 2
                self.output_blocks.append(Stage(*blocks))

        self.out = nn.Sequential(
            nn.GroupNorm(arch.norm_groups, channels),
            nn.SiLU(),
            _zero(nn.Conv2d(channels, arch.out_channels, 3, padding=1)),
        )

    def forward(self, x: Tensor, t: Tensor, text: Text | None = None) -> Tensor:
        emb = self.time_embed(timestep_embedding(t * self.time_scale, self.arch.model_channels))
        states = None
        if text is not None:
            emb, states = emb + _for_batch(text.vector, len(x)), text.states
        h, skips = x, []
        for block in self.input_blocks:
            h = block(h, emb, states)
            skips.append(h)
        h = self.middle_block(h, emb, states)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb, states)
        return self.out(h)


def _for_batch(texts: Tensor, images: int) -> Tensor:
    """Repeat the rows of n texts for each of their images."""
    return texts.repeat_interleave(images // len(texts), dim=0)


def _zero(module: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
