"""The autoencoder of a latent diffusion model (Rombach et al. 2022, arXiv 2112.10752): pictures to latents, and back."""

from __future__ import annotations

import contextlib
import hashlib
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError, reason
from ppap.utils.mixed_precision import is_cast

_AT_ONCE = 16  # pictures


class LatentSpace(NamedTuple):
    """The facts that tell the latents of one autoencoder from those of another."""

    scale: str
    shift: str
    decoder_sha256: str


@checked
class Autoencoder(nn.Module):
    """An autoencoder, whose latents are scaled for the diffusion model: z = (E(x) - shift) scale.

    `network` has `encode`, of pictures (B, C, H, W) in [-1, 1], and `decode`, of latents (B, c, h, w): one of diffusers
    (AutoencoderKL, AutoencoderTiny, AutoencoderDC, VQModel) or any module whose two methods return tensors. `scale` and
    `shift` are numbers, or one a channel. It runs in float32 where autocast would be float16, in which the gradients of
    decoders overflow.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, scale: Any = 1.0, shift: Any = 0.0) -> None:
        super().__init__()
        for method in ("encode", "decode"):
            if not callable(getattr(network, method, None)):
                raise ConfigError(f"autoencoder: {type(network).__name__} has no method {method}")
        self.network: Any = network.eval().requires_grad_(False)
        self._pictures: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        for name, value in (("scale", scale), ("shift", shift)):
            number = torch.as_tensor(value, dtype=torch.float32)
            self.register_buffer(name, number.reshape(1, -1, 1, 1), persistent=False)

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the likeliest latents (B, c, h, w) of pictures (B, C, H, W) in [-1, 1]."""
        with _precise(pictures):
            return (_tensor(self.network.encode(self._own(pictures))).float() - self.shift) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures (B, C, H, W), about in [-1, 1], of latents (B, c, h, w), differentiably."""
        with _precise(latents):
            return _tensor(self.network.decode(self._own(latents / self.scale + self.shift))).float()

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """Return the pictures of any number of latents, a few at a time."""
        return torch.cat([self.decode(few) for few in latents.split(_AT_ONCE)])

    @torch.no_grad()
    def encoded(self, pictures: Tensor) -> Tensor:
        """Return the latents of any number of pictures, a few at a time."""
        return torch.cat([self.encode(few) for few in pictures.split(_AT_ONCE)])

    def shape_of_pictures(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of the picture of a latent of this shape (c, h, w); ConfigError if it has none."""
        if latent not in self._pictures:
            try:
                _, channels, height, width = self._decoded_shape(latent)
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"autoencoder: latents {latent} decode to no picture ({reason(error)})") from error
            self._pictures[latent] = channels, height, width
        return self._pictures[latent]

    def _decoded_shape(self, latent: tuple[int, int, int]) -> torch.Size:
        """Decode shapes alone, which takes no memory; where the network's code needs numbers, a latent of zeros."""
        with contextlib.suppress(Exception), FakeTensorMode(allow_non_fake_inputs=True):
            return self.decoded(torch.empty(1, *latent, device=self.scale.device)).shape
        return self.decoded(torch.zeros(1, *latent, device=self.scale.device)).shape

    @cached_property
    def space(self) -> LatentSpace:
        """The facts of its latents: scale, shift, and a hash of the weights that decode."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            if not name.startswith(("encoder.", "quant_conv.")):
                digest.update(f"{name} {tuple(value.shape)}".encode())
                digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        scale, shift = (" ".join(f"{v:.6g}" for v in each.flatten().tolist()) for each in (self.scale, self.shift))
        return LatentSpace(scale, shift, digest.hexdigest()[:16])

    def _own(self, images: Tensor) -> Tensor:
        """Bring images to the network's precision; under autocast it brings them itself."""
        if is_cast(images):
            return images
        return images.to(next((p.dtype for p in self.network.parameters()), images.dtype))


def _precise(images: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Leave autocast on in bfloat16 alone."""
    kind = images.device.type
    if not torch.amp.is_autocast_available(kind):
        return contextlib.nullcontext()
    on = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return torch.autocast(kind, torch.bfloat16, enabled=on)


def _tensor(answer: Any) -> Tensor:
    """Return the tensor in an answer of diffusers, of a distribution its likeliest."""
    if isinstance(answer, Tensor):
        return answer
    for name in ("latents", "latent", "sample"):
        if isinstance(value := getattr(answer, name, None), Tensor):
            return value
    if (distribution := getattr(answer, "latent_dist", None)) is not None:
        return distribution.mode()
    raise ConfigError(f"autoencoder: answers with {type(answer).__name__}; a tensor was expected")
