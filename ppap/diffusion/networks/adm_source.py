"""Sources of an ADM U-Net: trained by the workflow, or a checkpoint in the public format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ppap.data.datasets import DatasetConfig
from ppap.data.downloads import Downloads
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.sources import Source, Trial, read_weights, with_weights
from ppap.utils import weights
from ppap.utils.device import Runtime
from ppap.utils.errors import DataError
from ppap.utils.settings import DIFFUSION, keys_of
from ppap.utils.tensor_spec import of_network, of_published

if TYPE_CHECKING:
    from ppap.diffusion.settings import DiffusionConfig

_ARCHITECTURE = keys_of(ADMArchitecture, f"{DIFFUSION}.architecture")


class TrainedADM(Source):
    """An ADM that the workflow trains."""

    reads = (*_ARCHITECTURE, f"{DIFFUSION}.timesteps", f"{DIFFUSION}.rescale_timesteps")
    is_trained = True
    described = staticmethod(of_network)

    def build(self, settings: DiffusionConfig, file: Path) -> nn.Module:
        return _new(settings)

    def load(self, settings: DiffusionConfig, file: Path, how: Runtime) -> nn.Module:
        with torch.device("meta"):  # no time for initial weights that nobody needs
            network = _new(settings)
        return with_weights(network, read_weights(file, self.described(network)), how)

    def check(self, settings: DiffusionConfig, images: DatasetConfig, trial: Trial) -> None:
        shape = images.shape if settings.autoencoder is None else settings.autoencoder.latent_shape(images.shape)

        def predict() -> None:
            _new(settings)(torch.randn(2, *shape), torch.zeros(2))

        trial(predict, "architecture")


class PublishedADM(TrainedADM):
    """A public checkpoint (float16 or float32), kept in its own precision."""

    download_reads = (*_ARCHITECTURE,)
    downloads = ("weights",)
    is_trained = False
    predicts_any = True

    described = staticmethod(of_published)

    def download(
        self, settings: DiffusionConfig, images: DatasetConfig, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        assert settings.architecture is not None and settings.weights is not None
        with downloads.file(settings.weights) as path:
            _, tensors = read_checkpoint(path, settings.architecture)
            return tensors, weights.provenance(path)


def read_checkpoint(path: Path, architecture: ADMArchitecture, time_scale: float = 1) -> tuple[ADM, dict[str, Tensor]]:
    """Read a checkpoint in the public format: its network, on the meta device, and its weights.

    It embeds t times `time_scale`. DataError, naming the first differences, if it is of another architecture.
    """
    with torch.device("meta"):
        network = ADM(architecture, time_scale=time_scale)
    tensors = weights.read_weights(path)
    if "label_emb.weight" in tensors:
        raise DataError(f"{path}: is class-conditional (label_emb.weight); only unconditional models draw")
    weights.check_weights(network, tensors, path)
    return network, tensors


def time_scale(timesteps: int, rescaled: bool) -> float:
    """Return what a network that was trained with rescaled timesteps, in the public code's word, takes t times."""
    return 1000 / timesteps if rescaled else 1


def _new(settings: DiffusionConfig) -> ADM:
    assert settings.architecture is not None
    return ADM(settings.architecture, time_scale=time_scale(settings.timesteps, settings.rescale_timesteps))
