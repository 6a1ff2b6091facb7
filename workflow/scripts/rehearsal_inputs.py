"""Random weights and images in the publishers' own formats, at full size, for the presets that rehearse.

    python workflow/scripts/rehearsal_inputs.py PRESET

writes the files and folders that the preset (rehearsal256, rehearsal_glide) names by their paths: checkpoints of ADM
and GLIDE (float16), weights of torchvision, timm and transformers, torch-fidelity's Inception weights, a reference
batch of ADM's evaluator, an ImageNet folder with one picture a class, and pictures as targets. Files that exist are
kept.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.glide import Networks
from ppap.utils import files

CLASSES, REFERENCES, FEATURES = 1000, 8, 2048


def main(preset: Preset) -> None:
    """Write what is missing."""
    torch.manual_seed(0)
    for path in named(preset):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            MAKERS[path.name](path)
            print(path)


def named(preset: Preset) -> list[Path]:
    """The files and folders that a preset names by their paths."""
    paths = [source.local for source in preset.files.values()]
    paths += [Path(guide.targets.folder) for guide in preset.guides.values() if guide.targets.folder]
    models = (spec.model.partition(":") for spec in preset.networks.values())
    paths += [Path(name) for library, _, name in models if library == "transformers"]
    paths += [Path(preset.dataset.path)] if preset.dataset.path else []
    return list(dict.fromkeys(path for path in paths if path is not None))


def save(path: Path, state: object) -> None:
    files.write_all({path: lambda draft: torch.save(state, draft)})


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
    options: dict[str, Any] = {"zero_init_residual": True} if name.startswith("resnet") else {}
    if name in ("deeplabv3_resnet50", "fcn_resnet101"):  # whose files have an auxiliary head
        options = {"weights_backbone": None, "num_classes": 21, "aux_loss": True}
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


def glide(path: Path) -> None:
    """A checkpoint of GLIDE's base or upsampler."""
    section = presets.load(presets.find("rehearsal_glide")).diffusion.glide
    assert section is not None
    arch = section.base_architecture if path.stem == "base" else section.upsampler_architecture
    beside = 0 if path.stem == "base" else arch.in_channels
    with torch.device("meta"):
        spec = Networks.new(arch, section.text, beside=beside).spec
    weights = {name: random_weight(name, one.shape) for name, one in spec.items()}
    save(path, weights)


def random_weight(name: str, shape: tuple[int | str, ...]) -> torch.Tensor:
    """Half precision: small numbers, about 1 for the factors of norms."""
    random = 0.02 * torch.randn([int(n) for n in shape])
    return (random + (random.ndim == 1 and name.endswith("weight"))).half()


def transformer(path: Path) -> None:
    """A folder of transformers with the configuration that the preset states."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    preset = presets.load(presets.find("rehearsal_glide"))
    spec = next(s for s in preset.networks.values() if Path(s.model.partition(":")[2]) == path)
    options = {key: value for key, value in spec.options.items() if key != "model_type"}
    unfinished = path.with_suffix(".part")
    DPTForDepthEstimation(DPTConfig(**options)).save_pretrained(unfinished)
    assert spec.input_size is not None
    size = {"height": spec.input_size, "width": spec.input_size}
    own = DPTImageProcessor(size=size, image_mean=spec.mean, image_std=spec.std)
    own.save_pretrained(unfinished)
    unfinished.rename(path)


def pictures(folder: Path) -> None:
    """Two pictures to take targets from."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(2):
        small = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(small).resize((320, 280)).save(folder / f"{i}.png")


MAKERS: dict[str, Callable[[Path], None]] = {
    "256x256_diffusion_uncond.pt": lambda path: save(path, half(adm())),
    "base.pt": glide,
    "upsample.pt": glide,
    "deit_small_patch16_224.pth": lambda path: save(path, {"model": weights("deit")}),
    "inception.pth": lambda path: save(path, inception().state_dict()),
    "reference.npz": reference,
    "imagenet": imagenet,
    "pictures": pictures,
    "dpt-hybrid-midas": transformer,
    "dpt-large": transformer,
    **{
        f"{name}.pth": lambda path: save(path, weights(path.stem))
        for name in (*("resnet18", "resnet50", "resnet152", "convnext_base"), *("deeplabv3_resnet50", "fcn_resnet101"))
    },
}


if __name__ == "__main__":
    main(presets.load(presets.find(sys.argv[1])))
