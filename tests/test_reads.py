"""Leaf keys that networks say they read, against those that building, loading and downloading them does read."""

from pathlib import Path

import pytest
import torch
import torchvision

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.data.downloads import Downloads
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.workflow import networks
from ppap.workflow.layout import Layout
from ppap.workflow.reads import diffusion_keys, download_keys, network_keys
from ppap.workflow.steps.download import Download, downloaded
from tests.conftest import CIFAR10, IMAGENET
from tests.recorder import keys_read
from tests.test_diffusers import save_pipeline

TINY = {"model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2],
        "head_channels": 16}  # fmt: skip


@pytest.fixture
def published(preset_file, tmp_path: Path) -> Preset:
    """The preset imagenet256 with a torchvision guide, a user's own, a small ADM, and their files."""
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    torch.save(ADM(ADMArchitecture(**TINY)).state_dict(), tmp_path / "adm.pt")
    (tmp_path / "read_models.py").write_text(
        "import torch\ndef build(classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, classes))\n"
    )
    path = preset_file(
        IMAGENET, runtime={"device": "cpu"}, guides__resnet50__model="user:read_models.build",
        guides__resnet50__input_size=8, guides__resnet18__model="torchvision:resnet18",
        guides__resnet18__weights={"url": str(tmp_path / "resnet.pth")},
        diffusion={"architecture": TINY, "weights": {"url": str(tmp_path / "adm.pt")}},
    )  # fmt: skip
    return presets.load(path)


def download(preset: Preset, folder: Path, name: str) -> Layout:
    """Download a network, after a look at what that reads."""
    layout = Layout(preset, folder / "results", downloads=folder / "downloads")
    downloads = Downloads(layout.downloads, folder / "lock.json")
    assert keys_read(preset, lambda: downloaded(layout, downloads, name)) == set(download_keys(preset, name))
    Download(name).run(layout)
    return layout


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_of_a_classifier_from_elsewhere(published: Preset, tmp_path: Path, name: str) -> None:
    layout = download(published, tmp_path, name)
    assert keys_read(published, lambda: networks.load_guide(layout, name)) == set(network_keys(published, name))


@pytest.mark.parametrize("source", ["published", "pipeline"])
def test_of_a_diffusion_model_from_elsewhere(published: Preset, preset_file, tmp_path: Path, source: str) -> None:
    preset = published
    if source == "pipeline":
        save_pipeline(tmp_path / "pipeline")
        preset = presets.load(preset_file(CIFAR10, diffusion__pipeline=str(tmp_path / "pipeline")))
    layout = download(preset, tmp_path, "diffusion")
    assert keys_read(preset, lambda: networks.load_diffusion(layout)) == set(diffusion_keys(preset))
