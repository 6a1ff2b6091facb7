"""GLIDE's public checkpoints (openai/glide-text2im: base.pt, upsample.pt) as a source of the diffusion model."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ppap.config import Preset
from ppap.diffusion.denoiser import Network
from ppap.diffusion.networks import tokens
from ppap.diffusion.networks.glide import Networks, Prompted, PromptedUpsampler
from ppap.diffusion.networks.glide_settings import GlideConfig
from ppap.diffusion.networks.sources import DownloadFolder, SourceCode, Trial, read_weights
from ppap.diffusion.networks.tokens import Tokens
from ppap.utils import files, tensor_spec, weights
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.settings import DIFFUSION
from ppap.utils.tensor_spec import TensorSpec
from ppap.workflow.layout import Layout

# Parts of the workflow's file, and prefixes of its tensors' names.
_BASE, _UPSAMPLER, _VOCABULARY = "base", "upsampler", "vocabulary"
_BYTES = {"bytes": TensorSpec(("uint8",), ("length",))}


class PublishedGLIDE(SourceCode):
    """Both stages, kept in the checkpoints' own precision. The prompt is read when one of them is loaded."""

    def build(self, layout: Layout) -> Prompted:
        return _untrained(layout.preset)

    def load(self, layout: Layout, how: Runtime) -> nn.Module:
        glide = _section(layout.preset)
        networks, prompt = _loaded(layout, _BASE), _prompt(layout)
        empty = tokens.no_tokens(glide.text.context)
        text = networks.told(prompt, empty) if prompt else networks.told(empty)
        return hold_precision(Prompted(networks.unet, text, glide.prompt_scale), how)

    def build_upsampler(self, layout: Layout) -> PromptedUpsampler:
        return _untrained_upsampler(layout.preset)

    def load_upsampler(self, layout: Layout) -> PromptedUpsampler:
        empty = tokens.no_tokens(_section(layout.preset).text.context)
        networks = _loaded(layout, _UPSAMPLER)
        return PromptedUpsampler(networks.unet, networks.told(_prompt(layout) or empty))

    def download(
        self, preset: Preset, downloads: DownloadFolder
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        glide = _section(preset)
        tensors: dict[str, Tensor] = {}
        about: dict[str, str] = {}
        for part, source in ((_BASE, glide.base), (_UPSAMPLER, glide.upsampler)):
            with torch.device("meta"):
                spec = _new(glide, part).spec
            with downloads.file(source) as path:
                found = weights.read_weights(path)
                tensor_spec.check(f"diffusion.glide.{part}: {path}", found, spec, remedy="")
                known = weights.provenance(path)
            tensors |= {f"{part}.{name}": value for name, value in found.items()}
            about |= {f"{part}_{key}": value for key, value in known.items()}
        if glide.vocabulary is not None:
            with downloads.file(glide.vocabulary) as path:
                tensors[f"{_VOCABULARY}.bytes"] = tokens.read_vocabulary(path)
        return tensors, about

    def check(self, preset: Preset, trial: Trial) -> None:
        if _section(preset).prompt:
            tokens.need_tiktoken()
        trial(partial(_base_answers, preset), "glide.base_architecture")
        trial(partial(_upsampler_answers, preset), "glide.upsampler_architecture")


def _section(preset: Preset) -> GlideConfig:
    assert preset.diffusion.glide is not None
    return preset.diffusion.glide


def _new(glide: GlideConfig, part: str) -> Networks:
    if part == _BASE:
        return Networks.new(glide.base_architecture, glide.text)
    arch = glide.upsampler_architecture
    return Networks.new(arch, glide.text, beside=arch.in_channels)


def _untrained(preset: Preset) -> Prompted:
    """The first stage; of a prompt, it knows that there is one."""
    glide = _section(preset)
    networks, empty = _new(glide, _BASE), tokens.no_tokens(glide.text.context)
    text = networks.told(empty, empty) if glide.prompt else networks.told(empty)
    return Prompted(networks.unet, text, glide.prompt_scale)


def _untrained_upsampler(preset: Preset) -> PromptedUpsampler:
    glide = _section(preset)
    networks = _new(glide, _UPSAMPLER)
    return PromptedUpsampler(networks.unet, networks.told(tokens.no_tokens(glide.text.context)))


def _loaded(layout: Layout, part: str) -> Networks:
    """A stage's networks with their weights in the workflow's file."""
    with torch.device("meta"):  # no time for initial weights that nobody needs
        networks = _new(_section(layout.preset), part)
    networks.load(read_weights(layout, networks.spec, f"{part}."))
    return networks


def _prompt(layout: Layout) -> Tokens | None:
    """The preset's prompt by the vocabulary in the workflow's file; None if it is empty."""
    glide = _section(layout.preset)
    if not glide.prompt:
        return None
    vocabulary = read_weights(layout, _BYTES, f"{_VOCABULARY}.")["bytes"]
    with files.readable(layout.model(DIFFUSION)):
        ranks = tokens.ranks_of(vocabulary.numpy().tobytes())
    return tokens.tokens_of(glide.prompt, ranks, glide.text.context)


def _base_answers(preset: Preset) -> None:
    network = _untrained(preset)
    _answers(_BASE, network, network.unet.arch.out_channels, preset.dataset.shape)


def _upsampler_answers(preset: Preset) -> None:
    network, size = _untrained_upsampler(preset), _section(preset).upsampling.image_size
    channels = preset.dataset.channels
    upsampling = network.upsampling(torch.randn(2, *preset.dataset.shape))
    _answers(_UPSAMPLER, upsampling, network.unet.arch.out_channels, (channels, size, size))


def _answers(part: str, network: Network, channels: int, shape: tuple[int, int, int]) -> None:
    """ConfigError unless the network answers noise with as many channels as its architecture says."""
    out = network(torch.randn(2, *shape), torch.zeros(2))
    wanted = (2, channels, *shape[1:])
    if out.shape != wanted:
        raise ConfigError(
            f"glide.{part}_architecture: answers with {tuple(out.shape)}, not {wanted}"
        )
