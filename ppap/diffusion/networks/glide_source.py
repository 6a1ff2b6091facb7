"""GLIDE's public checkpoints (openai/glide-text2im: base.pt, upsample.pt) as a source of the diffusion model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.diffusion.networks import tokens
from ppap.diffusion.networks.architectures import ADMArchitecture, TextArchitecture
from ppap.diffusion.networks.glide import Networks, Prompted, PromptedUpsampler
from ppap.diffusion.networks.glide_settings import GlideConfig
from ppap.diffusion.networks.sources import Source, Trial, read_weights
from ppap.diffusion.networks.tokens import Tokens
from ppap.utils import files, tensor_spec, weights
from ppap.utils.device import Runtime
from ppap.utils.errors import need
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.settings import keys_of
from ppap.utils.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from ppap.diffusion.settings import DiffusionConfig

# Parts of the workflow's file, and prefixes of its tensors' names.
_BASE, _UPSAMPLER, _VOCABULARY = "base", "upsampler", "vocabulary"
_BYTES = {"bytes": TensorSpec(("uint8",), ("length",))}
_TEXT_KEYS = keys_of(TextArchitecture, "diffusion.glide.text")
_BASE_KEYS = (*keys_of(ADMArchitecture, "diffusion.glide.base_architecture"), *_TEXT_KEYS)
_UPSAMPLER_KEYS = (*keys_of(ADMArchitecture, "diffusion.glide.upsampler_architecture"), *_TEXT_KEYS)


class PublishedGLIDE(Source):
    """Both stages, kept in the checkpoints' own precision. The prompt is read when one of them is loaded."""

    reads = (*_BASE_KEYS, "diffusion.glide.prompt", "diffusion.glide.prompt_scale")
    download_reads = (*_BASE_KEYS, *_UPSAMPLER_KEYS)
    downloads = ("glide.base", "glide.upsampler", "glide.vocabulary")
    has_architecture = False
    upsampling = "glide.upsampling"
    upsampler_reads = (*_UPSAMPLER_KEYS, "diffusion.glide.prompt")

    def build(self, settings: DiffusionConfig, file: Path) -> Prompted:
        return _untrained(_glide(settings))

    def load(self, settings: DiffusionConfig, file: Path, how: Runtime) -> nn.Module:
        glide = _glide(settings)
        networks, prompt = _loaded(glide, file, _BASE), _prompt(glide, file)
        empty = tokens.no_tokens(glide.text.context)
        text = networks.told(prompt, empty) if prompt else networks.told(empty)
        return hold_precision(Prompted(networks.unet, text, glide.prompt_scale), how)

    def build_upsampler(self, settings: DiffusionConfig) -> PromptedUpsampler:
        return _untrained_upsampler(_glide(settings))

    def load_upsampler(self, settings: DiffusionConfig, file: Path) -> PromptedUpsampler:
        glide = _glide(settings)
        networks = _loaded(glide, file, _UPSAMPLER)
        text = networks.told(_prompt(glide, file) or tokens.no_tokens(glide.text.context))
        return PromptedUpsampler(networks.unet, text)

    def download(
        self, settings: DiffusionConfig, images: DatasetConfig, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        glide = _glide(settings)
        tensors: dict[str, Tensor] = {}
        about: dict[str, str] = {}
        for part, source in ((_BASE, glide.base), (_UPSAMPLER, glide.upsampler)):
            with torch.device("meta"):
                spec = _new(glide, part).spec
            with downloads.file(source) as path:
                read = weights.read_weights(path)
                tensor_spec.check(f"diffusion.glide.{part}: {path}", read, spec, remedy="")
                known = weights.provenance(path)
            tensors |= {f"{part}.{name}": value for name, value in read.items()}
            about |= {f"{part}_{key}": value for key, value in known.items()}
        if glide.vocabulary is not None:
            with downloads.file(glide.vocabulary) as path:
                tensors[f"{_VOCABULARY}.bytes"] = tokens.read_vocabulary(path)
        return tensors, about

    def check(self, settings: DiffusionConfig, images: DatasetConfig, trial: Trial) -> None:
        glide = _glide(settings)
        if glide.prompt:
            need("tiktoken", "diffusion.glide.prompt", "glide")
        size = glide.upsampling.image_size

        def predict() -> None:
            _untrained(glide)(torch.randn(2, *images.shape), torch.zeros(2))

        def upsample() -> None:
            network = _untrained_upsampler(glide).upsampling(torch.randn(2, *images.shape))
            network(torch.randn(2, images.channels, size, size), torch.zeros(2))

        trial(predict, "glide.base_architecture")
        trial(upsample, "glide.upsampler_architecture")


def _glide(settings: DiffusionConfig) -> GlideConfig:
    assert settings.glide is not None
    return settings.glide


def _new(glide: GlideConfig, part: str) -> Networks:
    if part == _BASE:
        return Networks.new(glide.base_architecture, glide.text)
    arch = glide.upsampler_architecture
    return Networks.new(arch, glide.text, beside=arch.in_channels)


def _untrained(glide: GlideConfig) -> Prompted:
    """Build the first stage; of a prompt, it knows that there is one."""
    networks, empty = _new(glide, _BASE), tokens.no_tokens(glide.text.context)
    text = networks.told(empty, empty) if glide.prompt else networks.told(empty)
    return Prompted(networks.unet, text, glide.prompt_scale)


def _untrained_upsampler(glide: GlideConfig) -> PromptedUpsampler:
    networks = _new(glide, _UPSAMPLER)
    return PromptedUpsampler(networks.unet, networks.told(tokens.no_tokens(glide.text.context)))


def _loaded(glide: GlideConfig, file: Path, part: str) -> Networks:
    """Load a stage's networks with their weights in the workflow's file."""
    with torch.device("meta"):  # no time for initial weights that nobody needs
        networks = _new(glide, part)
    networks.load(read_weights(file, networks.spec, f"{part}."))
    return networks


def _prompt(glide: GlideConfig, file: Path) -> Tokens | None:
    """Turn the prompt into tokens by the vocabulary in the workflow's file; None if it is empty."""
    if not glide.prompt:
        return None
    vocabulary = read_weights(file, _BYTES, f"{_VOCABULARY}.")["bytes"]
    with files.readable(file):
        ranks = tokens.ranks_of(vocabulary.numpy().tobytes())
    return tokens.tokens_of(glide.prompt, ranks, glide.text.context)
