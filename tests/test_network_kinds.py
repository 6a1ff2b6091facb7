"""Registries of the libraries of guides and of the sources of a diffusion model: an entry and its code are enough."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ppap.config import reading as presets
from ppap.diffusion.networks.sources import Source, read_weights
from ppap.diffusion.settings import SOURCES
from ppap.guides.libraries.library import Input, Library, Pretrained
from ppap.guides.libraries.registry import LIBRARIES
from ppap.workflow import networks as models
from ppap.workflow.check import problems
from ppap.workflow.layout import Layout
from ppap.workflow.reads import diffusion_keys, download_keys
from tests.conftest import CIFAR10, ppap


class Shelf(Library):
    """One linear classifier, which sees images of 4 pixels."""

    written = "shelf:NAME"

    def knows(self, name) -> bool:
        return name == "linear"

    def build(self, name, shape, options, folders) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16 * shape.channels, shape.classes, **options))

    def pretrained(self, name) -> Pretrained:
        return Pretrained(None, Input(4, (0.25,), (0.5,)), (), 10)

    def load(self, name, shape, options, weights) -> nn.Module:
        network = self.build(name, shape, options, ())
        network.load_state_dict(torch.load(weights))
        return network


class Zeros(nn.Module):
    """A network that finds no noise."""

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


class ShelfSource(Source):
    download_reads = ("diffusion.pipeline",)
    has_architecture = False

    def build(self, settings, file) -> nn.Module:
        return Zeros()

    def load(self, settings, file, how) -> nn.Module:
        read_weights(file, {})
        return Zeros()

    def download(self, settings, images, downloads):
        return {}, {"made": settings.pipeline}


@pytest.fixture
def shelf(monkeypatch) -> None:
    """Another library, `shelf`."""
    monkeypatch.setitem(LIBRARIES._kinds, "shelf", Shelf())


def test_a_library_is_an_entry_and_a_class(shelf, preset_file, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 10, bias=False))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    changes = {"model": "shelf:linear", "options": {"bias": False}, "input_size": None,
               "train": None, "weights": {"url": str(tmp_path / "weights.pth")},
               "adapter": {"layers": ["1"], "freeze": []}}  # fmt: skip
    path = preset_file(**{f"guides__vit__{key}": value for key, value in changes.items()})
    preset = presets.load(path)
    assert problems(Layout(preset, tmp_path / "results")) == []
    ppap("download", path, "vit", cwd=tmp_path)
    guide = models.load_guide(Layout(preset, tmp_path / "results"), "vit")
    images = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(guide(images * 2 - 1), network((images - 0.25) / 0.5))
    with pytest.raises(presets.PresetError, match=r"'shelf:cubic': write shelf:NAME"):
        presets.load(preset_file(guides__vit__model="shelf:cubic"))


def test_a_source_is_a_class_in_the_registry(preset_file, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(SOURCES._kinds, "pipeline", ShelfSource())
    path = preset_file(CIFAR10, diffusion__pipeline="anything", runtime={"device": "cpu"})
    preset = presets.load(path)
    ppap("download", path, "diffusion", cwd=tmp_path)
    network = models.load_diffusion(Layout(preset, tmp_path / "results"))
    assert not network(torch.ones(1, 3, 32, 32), torch.zeros(1)).any()
    assert diffusion_keys(preset) == []
    assert download_keys(preset, "diffusion") == ["diffusion.pipeline"]


@pytest.mark.parametrize(
    ("diffusion", "message"),
    [
        ({"pipeline": "a", "train": None}, "diffusion: pipeline: brings its own `architecture`"),
        ({"pipeline": "a"}, "diffusion: give one of train, weights, pipeline and glide"),
        ({"train": None}, "diffusion: give one of train, weights, pipeline and glide"),
        ({"architecture": None}, "diffusion: train: needs an `architecture`"),
    ],
)
def test_one_source_is_given_with_an_architecture_if_it_takes_one(preset_file, diffusion, message: str) -> None:
    path = preset_file(**{f"diffusion__{key}": value for key, value in diffusion.items()})
    with pytest.raises(presets.PresetError) as error:
        presets.load(path)
    assert error.value.problems == [f"{path}: {message}"]
