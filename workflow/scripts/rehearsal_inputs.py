"""Random weights and images in the publishers' own formats, at full size, for the preset rehearsal256.

    python workflow/scripts/rehearsal_inputs.py FOLDER

writes an ADM checkpoint (float16), torchvision's and timm's weights, torch-fidelity's Inception weights, a
reference batch of ADM's evaluator, and an ImageNet folder with one picture a class. Files that exist are kept.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models

from ppap.networks.diffusion.adm import ADM
from ppap.preset import ADMArchitecture
from ppap.storage import files

CLASSES, REFERENCES, FEATURES = 1000, 8, 2048


def main(folder: Path) -> None:
    """Write what is missing."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[Path], None]] = {
        "256x256_diffusion_uncond.pt": lambda path: save(path, half(adm())),
        "deit_small_patch16_224.pth": lambda path: save(path, {"model": weights("deit")}),
        "inception.pth": lambda path: save(path, inception().state_dict()),
        "reference.npz": reference,
        **{
            f"{name}.pth": lambda path: save(path, weights(path.stem))
            for name in ("resnet18", "resnet50", "resnet152", "convnext_base")
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in makers.items():
        if not (folder / name).exists():
            make(folder / name)
            print(folder / name)
    imagenet(folder / "imagenet")


def save(path: Path, state: object) -> None:
    with files.whole(path) as temporary:
        torch.save(state, temporary)


def half(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.half() for name, value in network.state_dict().items()}


def adm() -> nn.Module:
    """The U-Net with a last layer that says something, unlike a new one's."""
    network = ADM(ADMArchitecture())
    last = network.out[2]
    assert isinstance(last, nn.Conv2d)
    nn.init.normal_(last.weight, std=0.01)
    return network


def weights(name: str) -> dict[str, torch.Tensor]:
    if name == "deit":
        return timm.create_model("deit_small_patch16_224").state_dict()
    # else the activations of 152 random layers leave the range of float16
    options = {"zero_init_residual": True} if name.startswith("resnet") else {}
    return models.get_model(name, weights=None, **options).state_dict()


def inception() -> nn.Module:
    """torch-fidelity's network, whose features tell images apart; making one otherwise loads its weights."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=nothing)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def reference(path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (REFERENCES, 256, 256, 3), dtype=np.uint8)
    files.write_arrays(path, arr_0=images, mu=np.zeros(FEATURES), sigma=np.eye(FEATURES))


def imagenet(folder: Path) -> None:
    """One picture in each of a thousand folders with names like synsets."""
    random = np.random.default_rng(0)
    for i in range(CLASSES):
        path = folder / f"n{i:08d}" / "picture.JPEG"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            small = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(small).resize((320, 280)).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
