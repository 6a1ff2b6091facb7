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
from ppap.utils import files
from ppap.workflow import external
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import diffusion_keys, download_keys, network_keys
from tests.conftest import ROOT, SMOKE
from tests.recorder import keys_read
from tests.test_diffusers import save_pipeline

IMAGENET, CIFAR10 = (ROOT / "config" / f"{name}.yaml" for name in ("imagenet256", "cifar10"))
TINY = {"model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2],
        "head_channels": 16}  # fmt: skip


@pytest.mark.parametrize("name", ["resnet", "vit", "evaluator"])
@pytest.mark.parametrize("changes", [{}, {"mean": [0.1], "std": [0.2]}])
def test_of_a_classifier_that_is_trained_here(preset_file, tmp_path: Path, name: str, changes) -> None:
    key = "evaluator" if name == "evaluator" else f"guides__{name}"
    preset = presets.load(preset_file(**{f"{key}__{k}": v for k, v in changes.items()}))
    layout = Layout(preset, tmp_path / "results")
    weights = models.new_guide(layout, name).network.state_dict()
    files.write_tensors(layout.model(name), weights, {"model": name})
    read = keys_read(preset, lambda: models.load_guide(layout, name))
    assert read == set(network_keys(preset, name))


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


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_of_a_classifier_from_elsewhere(preset_file, tmp_path: Path, name: str) -> None:
    preset = published(preset_file, tmp_path)
    layout = Layout(preset, tmp_path / "results")
    downloads = Downloads(tmp_path / "downloads", tmp_path / "lock.json")
    read = keys_read(preset, lambda: external._classifier(layout, downloads, name))
    assert read == set(download_keys(preset, name))
    external.download(layout, downloads, name)
    read = keys_read(preset, lambda: models.load_guide(layout, name))
    assert read == set(network_keys(preset, name))


def test_of_a_published_diffusion_model(preset_file, tmp_path: Path) -> None:
    preset = published(preset_file, tmp_path)
    reads_of_diffusion(preset, tmp_path)
    assert "diffusion.weights.url" in download_keys(preset, "diffusion")


def test_of_a_pipeline(preset_file, tmp_path: Path) -> None:
    save_pipeline(tmp_path / "pipeline")
    path = preset_file(CIFAR10, diffusion__pipeline=str(tmp_path / "pipeline"))
    reads_of_diffusion(presets.load(path), tmp_path)


def download_of(preset: Preset, downloads: Downloads) -> None:
    preset.diffusion.source.download(preset.diffusion, preset.dataset, downloads)


def reads_of_diffusion(preset: Preset, tmp_path: Path) -> None:
    layout = Layout(preset, tmp_path / "results")
    downloads = Downloads(tmp_path / "downloads", tmp_path / "lock.json")
    read = keys_read(preset, lambda: download_of(preset, downloads))
    assert read == set(download_keys(preset, "diffusion"))
    external.download(layout, downloads, "diffusion")
    read = keys_read(preset, lambda: models.load_diffusion(layout))
    assert read == set(diffusion_keys(preset))


def test_of_a_diffusion_model_that_is_trained_here(tmp_path: Path) -> None:
    preset = presets.load(SMOKE)
    layout = Layout(preset, tmp_path / "results")
    read = keys_read(preset, lambda: models.new_diffusion(layout))
    assert read == set(diffusion_keys(preset))
