"""The code of the sources that a diffusion model can come from, loaded when a preset chooses one."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ppap.config import Preset
from ppap.data.settings import Download
from ppap.diffusion.denoiser import Network
from ppap.utils import tensor_spec
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DIFFUSION
from ppap.utils.tensor_spec import Spec
from ppap.workflow.layout import Layout

Trial = Callable[[Callable[[], None], str], None]
"""Tries what builds and calls a network, without memory for its weights; its errors begin with the text."""


class DownloadFolder(Protocol):
    """A folder for downloads, which yields the files of others, checked."""

    @property
    def folder(self) -> Path: ...

    def file(self, source: Download) -> AbstractContextManager[Path]: ...


class Upsampler(nn.Module, ABC):
    """The second stage of a cascade: a diffusion network that sees the first stage's images beside x_t."""

    @abstractmethod
    def upsampling(self, low_res: Tensor) -> Network:
        """The network(x_t, t) of these images (B, C, h, w) in [-1, 1]."""


class SourceCode(ABC):
    """The code of a source (see `ppap.diffusion.settings.SOURCES`). Its networks are called as network(x_t, t)."""

    @abstractmethod
    def build(self, layout: Layout) -> nn.Module:
        """The network with untrained weights; DataError if it takes the workflow's file to know it, which is not there."""

    @abstractmethod
    def load(self, layout: Layout, how: Runtime) -> nn.Module:
        """The network with the weights in the workflow's file, held as `runtime.hold_precision` has them."""

    def build_upsampler(self, layout: Layout) -> Upsampler:
        """The second stage of a cascade, untrained; ConfigError if the diffusion model is none."""
        raise ConfigError(f"{layout.preset.name}: the diffusion model has no second stage")

    def load_upsampler(self, layout: Layout) -> Upsampler:
        """The second stage of a cascade, in float32; ConfigError if the diffusion model is none."""
        return self.build_upsampler(layout)

    def download(
        self, preset: Preset, downloads: DownloadFolder
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The weights of somebody else, and metadata about them.

        DataError if they cannot be had, or are not what they should be; ConfigError if they do not fit the preset.
        """
        raise ConfigError(f"{preset.name}: the diffusion model is trained here, not downloaded")

    def check(  # noqa: B027, a source may have nothing to check
        self, preset: Preset, trial: Trial
    ) -> None:
        """ConfigError if the network cannot be used, as far as it is known before any download."""


def code_of(preset: Preset) -> SourceCode:
    """The code of the source that the preset chooses."""
    code: SourceCode = pkgutil.resolve_name(
        f"ppap.diffusion.networks.{preset.diffusion.source.code}"
    )()
    return code


def read_weights(layout: Layout, spec: Spec, prefix: str = "") -> dict[str, Tensor]:
    """The weights in the workflow's file, or those with a prefix; DataError unless they are as described."""
    return tensor_spec.read(layout.model(DIFFUSION), spec, {"model": DIFFUSION}, prefix)
