"""Sources of an ADM U-Net: trained by the workflow, or a checkpoint in the public format."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ppap.config import Preset
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.sources import DownloadFolder, SourceCode, Trial, read_weights
from ppap.utils import weights
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import hold_precision
from ppap.utils.tensor_spec import Spec, of_network, of_published
from ppap.workflow.layout import Layout


class TrainedADM(SourceCode):
    """An ADM that the workflow trains."""

    def build(self, layout: Layout) -> nn.Module:
        return _new(layout.preset)

    def load(self, layout: Layout, how: Runtime) -> nn.Module:
        with torch.device("meta"):  # no time for initial weights that nobody needs
            network = _new(layout.preset)
        tensors = read_weights(layout, self._described(network))
        held = hold_precision(network, how).state_dict()
        copies = {name: value.to(held[name].dtype, copy=True) for name, value in tensors.items()}
        network.load_state_dict(copies, assign=True)
        return network

    def check(self, preset: Preset, trial: Trial) -> None:
        trial(partial(_answers, preset), "architecture")

    def _described(self, network: nn.Module) -> Spec:
        return of_network(network)


class PublishedADM(TrainedADM):
    """A public checkpoint (float16 or float32), kept in its own precision."""

    def download(
        self, preset: Preset, downloads: DownloadFolder
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        with torch.device("meta"):
            network = _new(preset)
        (source,) = preset.diffusion.downloads.values()
        with downloads.file(source) as path:
            tensors = weights.read_weights(path)
            weights.check_weights(network, tensors, path)
            return tensors, weights.provenance(path)

    def _described(self, network: nn.Module) -> Spec:
        return of_published(network)


def _new(preset: Preset) -> ADM:
    assert preset.diffusion.architecture is not None
    return ADM(preset.diffusion.architecture)


def _answers(preset: Preset) -> None:
    """ConfigError unless the network answers noise with as many channels as its architecture says."""
    network, data = _new(preset), preset.dataset
    out = network(torch.randn(2, *data.shape), torch.zeros(2))
    wanted = (2, network.arch.out_channels, *data.shape[1:])
    if out.shape != wanted:
        raise ConfigError(f"architecture: answers with {tuple(out.shape)}, not {wanted}")
