"""GLIDE's text transformer (Nichol et al. 2021, arXiv 2112.10741, section 4), with the names of the public checkpoints."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.diffusion.networks.adm import Text
from ppap.diffusion.networks.architectures import TextArchitecture
from ppap.diffusion.networks.tokens import VOCABULARY, Tokens


class Attention(nn.Module):
    """Attention of all tokens to one another; heads first, then q, k, v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_qkv = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.c_qkv(x).reshape(n, length, self.heads, 3, width // self.heads)
        q, k, v = qkv.transpose(1, 2).unbind(dim=3)  # each (n, heads, length, width/heads)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(out.transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    """Residual attention, then a residual network of each token's own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=nn.GELU(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class TextTransformer(nn.Module):
    """Tokens of n prompts to what a U-Net with timestep embeddings of `vector` channels is told of them."""

    def __init__(self, arch: TextArchitecture, vector: int) -> None:
        super().__init__()
        width = arch.width
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(arch.context, width))
        self.padding_embedding = nn.Parameter(0.01 * torch.randn(arch.context, width))
        blocks = nn.Sequential(*(Block(width, arch.heads) for _ in range(arch.layers)))
        self.transformer = nn.Sequential(OrderedDict(resblocks=blocks))
        self.final_ln = nn.LayerNorm(width)
        self.transformer_proj = nn.Linear(width, vector)

    def forward(self, prompts: Tokens) -> Text:
        x = self.token_embedding(prompts.tokens) + self.positional_embedding
        x = torch.where(prompts.mask[..., None], x, self.padding_embedding)
        x = self.final_ln(self.transformer(x))
        return Text(self.transformer_proj(x[:, -1]), x.transpose(1, 2))
