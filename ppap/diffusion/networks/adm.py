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
    """Residual block with scale-shift norm; `resample` halves ("down") or doubles ("up") the resolution."""

    def __init__(self, channels: int, out: int, emb: int, groups: int, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out))
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
        h = conv(h)
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class AttentionBlock(nn.Module):
    """Attention of the pixels to one another, and to a text of `text_width` channels if there is one.

    With ADM's legacy order: heads first, then q, k, v.
    """

    def __init__(self, channels: int, head_channels: int, groups: int, text_width: int | None = None) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        if text_width is not None:
            self.encoder_kv = nn.Conv1d(text_width, 2 * channels, kernel_size=1)
        self.proj_out = _zero(nn.Conv1d(channels, channels, kernel_size=1))

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | None) -> Tensor:
        b, c, h, w = x.shape
        flat = x.reshape(b, c, h * w)
        qkv = self.qkv(self.norm(flat)).reshape(b, self.heads, 3, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=2)  # each (B, heads, HW, C/heads)
        if text is not None:
            read = self.encoder_kv(text).reshape(len(text), self.heads, 2, c // self.heads, -1)
            text_k, text_v = _for_batch(read, b).transpose(-1, -2).unbind(dim=2)
            k, v = torch.cat([text_k, k], dim=2), torch.cat([text_v, v], dim=2)
        out = F.scaled_dot_product_attention(q, k, v)
        out = out.transpose(-1, -2).reshape(b, c, h * w)
        return (flat + self.proj_out(out)).reshape(b, c, h, w)


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

    With a `text_width` it is called with a Text besides; `beside` channels more than C come in with x_t.
    """

    def __init__(self, arch: ADMArchitecture, text_width: int | None = None, beside: int = 0) -> None:
        super().__init__()
        self.arch = arch
        emb = 4 * arch.model_channels
        self.time_embed = nn.Sequential(nn.Linear(arch.model_channels, emb), nn.SiLU(), nn.Linear(emb, emb))

        def res(channels: int, out: int, resample: str | None = None) -> ResBlock:
            return ResBlock(channels, out, emb, arch.norm_groups, resample)

        def attend(channels: int) -> AttentionBlock:
            return AttentionBlock(channels, arch.head_channels, arch.norm_groups, text_width)

        widths = [m * arch.model_channels for m in arch.channel_mult]
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
                self.input_blocks.append(Stage(res(channels, channels, "down")))
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
                    blocks.append(res(channels, channels, "up"))
                    factor //= 2
                self.output_blocks.append(Stage(*blocks))

        self.out = nn.Sequential(
            nn.GroupNorm(arch.norm_groups, channels),
            nn.SiLU(),
            _zero(nn.Conv2d(channels, arch.out_channels, 3, padding=1)),
        )

    def forward(self, x: Tensor, t: Tensor, text: Text | None = None) -> Tensor:
        emb = self.time_embed(timestep_embedding(t, self.arch.model_channels))
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
