"""Tokens of prompts: GPT-2's byte pairs (Radford et al. 2019) of the prompt in small letters, as GLIDE has them.

The vocabulary is a file in tiktoken's format: a line for each token, its bytes in base64 and its rank.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.utils import files
from ppap.utils.errors import ConfigError, need

PADDING = 50_256
"""GPT-2's end of text, the last of the vocabulary."""
VOCABULARY = PADDING + 1
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class Tokens(NamedTuple):
    """The tokens of n prompts, int64 (n, context), each below VOCABULARY; a mask (n, context), false where padded."""

    tokens: Tensor
    mask: Tensor


def no_tokens(context: int) -> Tokens:
    """Return the tokens of the empty prompt."""
    return _padded([], context)


def tokens_of(prompt: str, ranks: dict[bytes, int], context: int) -> Tokens:
    """Return the tokens of a prompt, by the ranks of a vocabulary.

    ConfigError if they are more than `context`, or tiktoken is not installed.
    """
    need("tiktoken", "diffusion.glide.prompt", "glide")
    from tiktoken import Encoding

    encoding = Encoding("gpt2", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
    numbers = encoding.encode_ordinary(prompt.lower())
    if len(numbers) > context:
        raise ConfigError(f"diffusion.glide.prompt: {len(numbers)} tokens, but at most {context} are read")
    return _padded(numbers, context)


def read_vocabulary(path: Path) -> Tensor:
    """Return the bytes of a vocabulary file, uint8 (n,); DataError unless it is one."""
    with files.readable(path):
        content = path.read_bytes()
        ranks_of(content)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def ranks_of(content: bytes) -> dict[bytes, int]:
    """Return the rank of each token in a vocabulary; ValueError unless every byte has one, and none has another's."""
    lines = (line.split() for line in content.splitlines() if line)
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    lacking = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if lacking:
        raise ValueError(f"the byte {lacking[0]} has no rank")
    numbers = set(ranks.values())
    if len(numbers) < len(ranks) or not 0 <= min(numbers) <= max(numbers) < PADDING:
        raise ValueError(f"ranks are not different numbers below {PADDING}")
    return ranks


def _padded(tokens: list[int], context: int) -> Tokens:
    padding = context - len(tokens)
    mask = [True] * len(tokens) + [False] * padding
    return Tokens(torch.tensor([tokens + [PADDING] * padding]), torch.tensor([mask]))
