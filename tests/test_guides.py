"""Guides by name: library weights in the libraries' own formats, their normalisation, size and class names."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import v2
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from ppap.config import reading as presets
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Pretrained
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.loading import load_guide, wrap_guide
from ppap.guides.tasks.classification import Classification
from ppap.guides.tasks.depth import Depth
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from tests.conftest import IMAGENET, ppap, refused

NOWHERE = Path("not-downloaded.safetensors")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("model", "size", "mean"),
    [
        ("torchvision:resnet50/IMAGENET1K_V2", 224, MEAN),
        ("torchvision:efficientnet_b4", 380, MEAN),
        ("timm:vit_base_patch16_384.augreg_in21k_ft_in1k", 384, (0.5, 0.5, 0.5)),
    ],
)
def test_size_and_normalisation_are_the_librarys(model, size, mean) -> None:
    seen = NetworkConfig(model=model).input(NOWHERE)
    assert (seen.input_size, seen.mean) == (size, mean)
    spec = NetworkConfig(model=model, input_size=64, mean=(0.1,))
    assert spec.input(NOWHERE) == (64, (0.1,), *seen[2:])


def test_class_names_are_the_librarys() -> None:
    for model in ("torchvision:resnet50/IMAGENET1K_V2", "timm:deit_small_patch16_224"):
        names = pretrained(model).class_names
        assert len(names) == 1000 and names[250].startswith("Siberian husky")


def test_weights_are_found_where_the_libraries_publish_them() -> None:
    source = pretrained("torchvision:resnet50/IMAGENET1K_V2").source
    assert source.name == "resnet50-11ad3fa6.pth" and source.sha256 == "11ad3fa6"
    source = pretrained("timm:deit_small_patch16_224").source
    assert source.name == "timm--deit_small_patch16_224.fb_in1k--model.safetensors"
    assert source.url.endswith("/timm/deit_small_patch16_224.fb_in1k/resolve/main/model.safetensors")


def pretrained(model: str) -> Pretrained:
    spec = NetworkConfig(model=model)
    return spec.library.pretrained(spec.name)


def deit(tmp_path: Path) -> tuple[Path, nn.Module]:
    """DeiT in the format of its authors: a state dict under the key `model`."""
    network = timm.create_model("deit_tiny_patch16_224")
    torch.save({"model": network.state_dict()}, tmp_path / "deit.pth")
    return tmp_path / "deit.pth", network


def test_a_downloaded_guide_is_the_librarys_model_behind_its_own_normalisation(preset_file, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, network = deit(tmp_path)
    preset = preset_file(
        IMAGENET, runtime={"device": "cpu"}, guides__resnet50__model="timm:deit_tiny_patch16_224",
        guides__resnet50__weights={"url": str(path)}, guides__resnet50__input_size=224, guides__resnet50__mean=MEAN,
        guides__resnet50__std=STD,
    )  # fmt: skip
    ppap("download", preset, "resnet50", cwd=tmp_path)
    config = presets.load(preset)
    loaded = models.load_guide(Layout(config, tmp_path / "results"), "resnet50")
    pixels = torch.rand(2, 3, 224, 224)
    theirs = network.eval()(v2.functional.normalize(pixels, MEAN, STD))
    torch.testing.assert_close(loaded(pixels * 2 - 1), theirs, rtol=1e-4, atol=1e-4)


def test_weights_for_other_classes_are_refused(preset_file, tmp_path: Path) -> None:
    path, _ = deit(tmp_path)
    preset = preset_file(
        IMAGENET, dataset__classes=10, figures__target_class=3,
        guides__deit_s__weights={"url": str(path)},
    )  # fmt: skip
    assert "deit.pth: not the weights of" in refused("download", preset, "deit_s", cwd=tmp_path)


def test_a_model_without_weights_is_named(preset_file, tmp_path: Path) -> None:
    preset = preset_file(IMAGENET, guides__deit_s__model="timm:mixer_s16_224")
    line = refused("download", preset, "deit_s", cwd=tmp_path)
    assert "no weights of timm:mixer_s16_224; give `train` or" in line


def test_a_function_of_the_users_own_brings_its_weights(preset_file, tmp_path: Path) -> None:
    (tmp_path / "mymodel.py").write_text(
        "import torch\ndef build(classes):\n"
        "    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, classes))\n"
        "    torch.nn.init.constant_(network[1].weight, 0.25)\n    return network\n"
    )
    preset = preset_file(IMAGENET, guides__resnet50__model="user:mymodel.build", guides__resnet50__input_size=8)
    ppap("download", preset, "resnet50", cwd=tmp_path)
    tensors = files.read_tensors(tmp_path / "results/imagenet256/models/resnet50.safetensors")
    assert tensors["1.weight"].shape == (1000, 192) and (tensors["1.weight"] == 0.25).all()


# -- guides without a preset -------------------------------------------------------------------------


class Brightness(Classification):
    """A task of one's own: answers as of three classes."""

    shape = (3,)


def test_a_task_may_be_a_class_an_instance_or_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strange_own.py").write_text(
        "import torch\nfrom ppap.guides.tasks.depth import Depth\nclass Near(Depth): pass\n"
        "def build(): return torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.Flatten(1, 2))\n"
    )
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), torch.zeros(2, 3, 8, 8)
    by_class = wrap_guide(network, Brightness, outputs=3, image_size=8)
    assert isinstance(by_class.task, Brightness) and by_class(images).shape == (2, 3)
    assert wrap_guide(network, by_class.own_task, image_size=8).task is by_class.task
    near, about = "user:strange_own.Near", {"image_size": 8, "input_size": 4}
    monkeypatch.chdir(tmp_path)
    loaded = load_guide("user:strange_own.build", near, **about, folder=tmp_path)
    assert loaded(images).shape == (2, 8, 8) and type(loaded.task).__name__ == "Near"
    assert isinstance(wrap_guide(loaded.network, near, **about).task, Depth)
    with pytest.raises(ConfigError, match=r"there is no strange_own\.py, .* in the current folder or sys\.path"):
        sys.modules.pop("strange_own")
        monkeypatch.chdir("/")
        wrap_guide(loaded.network, near, image_size=8)


def test_a_folder_that_has_changed_is_another_model(tmp_path: Path) -> None:
    settings = ViTConfig(
        hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=16,
        image_size=32, patch_size=16, num_labels=5,
    )  # fmt: skip
    images, seen = torch.rand(2, 3, 32, 32) * 2 - 1, []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        theirs = ViTForImageClassification(settings).eval()
        theirs.save_pretrained(tmp_path / "vit")
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
        guide = load_guide(f"transformers:{tmp_path / 'vit'}", outputs=5, image_size=32, folder=tmp_path / "kept")
        torch.testing.assert_close(guide(images), theirs(images).logits)
        seen.append(guide(images))
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    assert len(list((tmp_path / "kept" / "guides").iterdir())) == 2


def test_the_resize_is_antialiased_and_differentiable() -> None:
    guide = Guide(nn.Identity(), 32, (0.5,) * 3, (0.5,) * 3)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    resized = guide(images * 2 - 1)
    expected = v2.functional.resize(images, [32, 32], antialias=True) * 2 - 1
    torch.testing.assert_close(resized, expected)
    (gradient,) = torch.autograd.grad(resized.sum(), images)
    assert (gradient != 0).all()
