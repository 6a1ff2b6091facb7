"""The interface of the sources that a diffusion model can come from (`ppap.diffusion.settings.SOURCES`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import CLIPPED, Clip, Network, Process
from ppap.diffusion.schedules import Schedule
from ppap.utils import tensor_spec
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.settings import DIFFUSION
from ppap.utils.tensor_spec import Spec

if TYPE_CHECKING:
    from ppap.diffusion.settings import DiffusionConfig

FLOAT32 = Runtime(precision="float32")
Trial = Callable[[Callable[[], None], str], None]
"""Tries what builds and calls a network, without memory for its weights; its errors begin with the text."""


class Upsampler(nn.Module, ABC):
    """The second stage of a cascade: a diffusion network that sees the first stage's images beside x_t."""

    @abstractmethod
    def upsampling(self, low_res: Tensor) -> Network:
        """Return the network(x_t, t) of these images (B, C, h, w) in [-1, 1]."""


class Source(ABC):
    """One source of a diffusion model, whose network is called as network(x_t, t).

    A preset chooses it by a key of `diffusion`, whose section is the `settings` here. `file` is the workflow's file
    of the network's weights. Facts are class attributes; keys in them are leaf keys of a preset.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    "The keys that building and loading the network reads."
    download_reads: ClassVar[tuple[str, ...]] = ()
    "The keys that a download reads, besides all of each of the `downloads`."
    downloads: ClassVar[tuple[str, ...]] = ()
    "The keys of `diffusion` that name files of somebody else."
    has_architecture: ClassVar[bool] = True
    "The preset says how large the network is, under `architecture`."
    is_trained: ClassVar[bool] = False
    "The workflow trains it."
    predicts_any: ClassVar[bool] = False
    "Its network may predict x0 or v; otherwise it predicts eps."
    knows_process: ClassVar[bool] = False
    "Its file says how noise grows and what the network predicts; keys of the preset need not."
    upsampling: ClassVar[str | None] = None
    "In a cascade, the key of `diffusion` that says how the second stage is drawn."
    upsampler_reads: ClassVar[tuple[str, ...]] = ()
    "The keys that building and loading the second stage reads."

    @abstractmethod
    def build(self, settings: DiffusionConfig, file: Path) -> nn.Module:
        """Build the network with untrained weights; DataError if only `file` says what it is, and is not there."""

    @abstractmethod
    def load(self, settings: DiffusionConfig, file: Path, how: Runtime) -> nn.Module:
        """Load the network, its weights held as `runtime.hold_precision` has them."""

    def schedule(self, settings: DiffusionConfig, file: Path) -> Schedule:
        """Return the noise schedule that the network was trained with: the preset's, unless `file` knows better."""
        return Schedule.create(settings.noise_schedule, settings.timesteps)

    def process(self, settings: DiffusionConfig, file: Path) -> Process:
        """Return how the network was trained and is drawn from: as the preset says, unless `file` knows better."""
        predicts = settings.predicts
        if self.is_trained and settings.noise_schedule == "flow":
            predicts = "flow"
        clip = CLIPPED if settings.autoencoder is None else Clip(None)
        return Process(self.schedule(settings, file), settings.variance, predicts, clip)

    def autoencoder(self, settings: DiffusionConfig, file: Path, weights: bool = True) -> Autoencoder | None:
        """Load the autoencoder that the network comes with, if any; without `weights` as it is on the meta device."""
        return None

    def told_of_prompts(self, settings: DiffusionConfig, file: Path) -> bool | None:
        """Say whether the network is told a prompt of each image; None if that is known once it is downloaded."""
        return False

    def build_upsampler(self, settings: DiffusionConfig) -> Upsampler:
        """Build the second stage of a cascade, untrained; ConfigError if the diffusion model is none."""
        raise ConfigError("the diffusion model has no second stage")

    def load_upsampler(self, settings: DiffusionConfig, file: Path) -> Upsampler:
        """Load the second stage of a cascade in float32; ConfigError if the diffusion model is none."""
        return self.build_upsampler(settings)

    def download(
        self, settings: DiffusionConfig, images: DatasetConfig, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Download somebody else's weights for images of this size, and return them with metadata about them.

        DataError if they cannot be had, or are not what they should be; ConfigError if they do not fit the preset.
        """
        raise ConfigError("the diffusion model is trained here, not downloaded")

    def check(  # noqa: B027, a source may have nothing to check
        self, settings: DiffusionConfig, images: DatasetConfig, trial: Trial
    ) -> None:
        """Raise ConfigError if the network cannot be used, as far as it is known before any download."""


def read_weights(file: Path, spec: Spec, prefix: str = "") -> dict[str, Tensor]:
    """Read the weights in the workflow's file, or those with a prefix; DataError unless they are as described."""
    return tensor_spec.read(file, spec, {"model": DIFFUSION}, prefix)


def with_weights(network: nn.Module, tensors: Mapping[str, Tensor], how: Runtime = FLOAT32) -> nn.Module:
    """Give a network on the meta device its weights, held as `runtime.hold_precision` has them."""
    held = hold_precision(network, how).state_dict()
    copies = {name: value.to(held[name].dtype, copy=True) for name, value in tensors.items()}
    network.load_state_dict(copies, assign=True)
    return network
