"""The latents of a pipeline of diffusers: the autoencoder that they belong to, and how the pipeline lays them out."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ppap.diffusion.autoencoder import Autoencoder
from ppap.utils.errors import ConfigError

_PARTS = ("vae", "vqvae", "movq", "vqgan")
_OF_PICTURES = ("AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
_OF_ONE_FRAME = ("AutoencoderKLQwenImage",)  # of videos, by which pipelines encode pictures
_VIDEO = re.compile("3D|Video|Motion|Temporal")


class OneFrame(nn.Module):
    """An autoencoder of videos, as one of pictures (B, C, H, W)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def encode(self, pictures: Tensor) -> Tensor:
        latents: Tensor = self.network.encode(pictures[:, :, None]).latent_dist.mode()
        return latents[:, :, 0]

    def decode(self, latents: Tensor) -> Tensor:
        video: Tensor = self.network.decode(latents[:, :, None]).sample
        return video[:, :, 0]


class Unquantised(nn.Module):
    """A quantising autoencoder of which Kandinsky takes the latents as they are, and asks for no scale."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def encode(self, pictures: Tensor) -> Tensor:
        return self.network.encode(pictures).latents

    def decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents, force_not_quantize=True).sample


def autoencoder_of(pipeline: Any) -> Autoencoder | None:
    """Return the autoencoder of a pipeline, with its scale and shift; None if it has none, and draws pixels.

    ConfigError, naming the part, for one that is not known, or of videos, or was left out.
    """
    name = type(pipeline).__name__
    registered = getattr(pipeline, "config", {})
    parts = {part: value for part, value in vars(pipeline).items() if isinstance(value, nn.Module)}
    for part, network in parts.items():
        if _VIDEO.search(type(network).__name__):
            raise ConfigError(f"{name}: {part}: {type(network).__name__} is for video; only pictures are guided")
    for part, network in parts.items():
        kinds = [kind.__name__ for kind in type(network).__mro__]
        if {*kinds} & {*_OF_PICTURES, *_OF_ONE_FRAME}:
            return Autoencoder(Unquantised(_precise(network))) if part == "movq" else scaled(network)
        if part in _PARTS or kinds[0].startswith("Autoencoder"):
            raise ConfigError(f"{name}: {part}: {kinds[0]} is no autoencoder whose latents are known")
    if missing := [part for part in _PARTS if part in registered]:
        raise ConfigError(f"{name}: {missing[0]}: None; guides need the autoencoder of its latents")
    return None


def scaled(network: Any) -> Autoencoder:
    """Take an autoencoder of diffusers with the scale and shift of its latents, or their mean and deviation."""
    about, kinds = network.config, {kind.__name__ for kind in type(network).__mro__}
    factor, network = about.get("scaling_factor") or 1.0, _precise(network)
    mean, deviation = about.get("latents_mean"), about.get("latents_std")
    network = OneFrame(network) if kinds & {*_OF_ONE_FRAME} else network
    if mean is not None and deviation is not None:
        return Autoencoder(network, factor / torch.tensor(deviation), torch.tensor(mean))
    return Autoencoder(network, factor, about.get("shift_factor") or 0.0)


def _precise(network: Any) -> Any:
    """Return a copy that shares the weights; one of half precision in float32, in which gradients do not overflow.

    The pipeline's own stays as it is: by whether weights want gradients, its convolutions round in another way.
    """
    if network.dtype == torch.float16:
        return copy.deepcopy(network).float()
    weights = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    return copy.deepcopy(network, {**weights, **{id(buffer): buffer for buffer in network.buffers()}})


class Arrangement:
    """The layout in which a pipeline gives its scheduler latents or images; guides see them as (B, C, H, W).

    FLUX and its kin pack latents 2 by 2, as (B, L, 4 C): how high and wide they are is known from the call that
    prepares them. DiT draws everything twice, for its classifier-free guidance, and keeps the first half.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.twice = any(kind.__name__ == "DiTPipeline" for kind in type(pipeline).__mro__)
        self.size: dict[str, Any] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Learn the size of packed latents within this block."""
        prepare = getattr(self.pipeline, "prepare_latents", None)
        if prepare is None or not hasattr(self.pipeline, "_unpack_latents"):
            yield
            return
        outer, signature = vars(self.pipeline).get("prepare_latents"), inspect.signature(prepare)

        def prepared(*args: Any, **kwargs: Any) -> Any:
            self.size = {key: signature.bind(*args, **kwargs).arguments.get(key) for key in ("height", "width")}
            return prepare(*args, **kwargs)

        self.pipeline.prepare_latents = prepared
        try:
            yield
        finally:
            vars(self.pipeline).pop("prepare_latents", None)
            if outer is not None:
                self.pipeline.prepare_latents = outer

    def of(self, sample: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what takes such a sample to the images in it, (B, C, H, W); ConfigError if it has none."""
        half = len(sample) // 2
        if sample.ndim == 3 and self.size:
            return self._unpacked
        if sample.ndim != 4:
            raise ConfigError(f"guided: samples are {tuple(sample.shape)}; images (B, C, H, W) were expected")
        if self.twice and half * 2 == len(sample) and torch.equal(sample[:half], sample[half:]):
            return lambda doubled: doubled[:half]
        return lambda images: images

    def _unpacked(self, packed: Tensor) -> Tensor:
        unpack = self.pipeline._unpack_latents
        known = {**self.size, "vae_scale_factor": getattr(self.pipeline, "vae_scale_factor", None)}
        named = [name for name in inspect.signature(unpack).parameters if name != "latents"]
        known["patch_size"] = self.pipeline.transformer.config.get("patch_size") if "patch_size" in named else None
        latents: Tensor = unpack(packed, **{name: known[name] for name in named})
        return latents[:, :, 0] if latents.ndim == 5 else latents
