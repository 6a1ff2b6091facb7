"""Models of torchvision, timm and transformers answer as these libraries' own do, on the same picture.

Random weights are saved as their publishers do, and loaded by both. The library's preprocessing is its own but for the
crop: a guide sees the whole image, for what it does not see it does not guide.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models import WeightsEnum
from transformers import AutoConfig, AutoImageProcessor

from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.libraries.torchvision_models import TorchvisionModels
from ppap.guides.loading import load_guide


def shaken(network: nn.Module) -> dict[str, Tensor]:
    """Weights and statistics of which none is as a new network has it, and signals neither vanish nor grow."""
    torch.manual_seed(0)
    state = network.state_dict()
    for value in state.values():
        if value.dim() > 1 and value.is_floating_point():
            value.normal_(std=(2 / value[0].numel()) ** 0.5)
        elif value.is_floating_point():
            value.mul_(1 + 0.1 * torch.rand(value.shape)).add_(0.01)
    return state


def check(guide: Guide, theirs: nn.Module, see: Callable[[Tensor], Tensor], side: int) -> None:
    """Compare answers to a picture, and the gradient of a combination of them (where rounding turns a few ReLUs)."""
    found = []
    for answer in (lambda x: guide.network(guide.prepare(2 * x - 1)), lambda x: theirs.eval()(see(x))):
        torch.manual_seed(0)
        picture = torch.rand(1, 3, side, side, requires_grad=True)
        answers = answer(picture)
        (gradient,) = torch.autograd.grad((answers * torch.randn_like(answers)).sum(), picture)
        found.append((answers.detach(), gradient.flatten()))
    (answers, gradient), (wanted, wanted_gradient) = found
    torch.testing.assert_close(answers, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    assert torch.cosine_similarity(gradient, wanted_gradient, dim=0) > 0.999
    assert float(gradient.norm()) == pytest.approx(float(wanted_gradient.norm()), rel=0.01)


def further(*names: str) -> list[Any]:
    """More classes of what others show already."""
    return [pytest.param(name, marks=pytest.mark.exhaustive) for name in names]


# -- torchvision --------------------------------------------------------------------------------------

TORCHVISION = [
    *("densenet121", "inception_v3", "mobilenet_v3_small", "resnet18", "deeplabv3_mobilenet_v3_large"),
    *further("efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2", "regnet_x_400mf", "shufflenet_v2_x0_5"),
    *further("squeezenet1_1", "lraspp_mobilenet_v3_large"),
]


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights as in DenseNet's published files of 2017: norm.1 for norm1, and no counts of batches."""
    for old, new in ((f"{part}.{n}.", f"{part}{n}.") for part in ("norm", "conv") for n in "12"):
        state = {key.replace(f".{new}", f".{old}") if "denselayer" in key else key: v for key, v in state.items()}
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_model_of_torchvision(name: str, tmp_path: Path) -> None:
    weights = next(iter(zoo.get_model_weights(name)))
    dense, path = "VOC" in weights.name, tmp_path / "published.pth"
    kind: dict[str, Any] = {"weights_backbone": None} if dense else {}
    kind |= {"aux_loss": True} if name.startswith("deeplab") else {}
    kind |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    state = shaken(zoo.get_model(name, weights=None, num_classes=21 if dense else 1000, **kind))
    torch.save(old_names(state) if name == "densenet121" else state, path)
    with mock.patch.object(WeightsEnum, "get_state_dict", lambda *args, **how: torch.load(path)):
        theirs = zoo.get_model(name, weights=weights)
    how = weights.transforms()
    about: dict[str, Any] = {"task": "segmentation", "outputs": 21} if dense else {"outputs": 1000}
    about |= {"image_size": 128, "weights": path, "folder": tmp_path}
    model = f"torchvision:{name}/{weights.name}"
    assert NetworkConfig(model=model).input(path).input_size == (how.resize_size if dense else how.crop_size)[0]
    guide = load_guide(model, input_size=96, **about)
    if dense:
        theirs.register_forward_hook(lambda network, images, answers: answers["out"])
    see = weights.transforms(resize_size=96, **({} if dense else {"crop_size": 96}))
    check(guide, theirs, see, 128)


@pytest.mark.parametrize("name", ["vit_b_16", "vit_h_14", "maxvit_t"])
def test_the_size_of_a_transformer_of_torchvision_goes_with_its_weights(name: str) -> None:
    for weights in zoo.get_model_weights(name):
        spec = NetworkConfig(model=f"torchvision:{name}/{weights.name}")
        with torch.device("meta"):
            options = spec.library.options(spec, Path("none"))
            network = TorchvisionModels().build(spec.name, Shape(3, 1000), options)
        assert sum(value.numel() for value in network.parameters()) == weights.meta["num_params"]
        assert spec.input(Path("none")).input_size == weights.meta["min_size"][0]


# -- timm ---------------------------------------------------------------------------------------------

TIMM = [
    *("test_resnet", "test_vit", "convnext_atto", "deit_tiny_patch16_224.fb_in1k", "levit_128s"),
    *further("test_byobnet", "test_convnext", "test_efficientnet", "test_mambaout", "test_maxvit", "test_nfnet"),
    *further("test_vit3", "edgenext_xx_small", "lcnet_050", "mobilevit_xxs", "resnet10t", "tinynet_e"),
    *further("tf_efficientnet_lite0", "xcit_nano_12_p16_224"),
]
WRAPPED = {"deit_tiny_patch16_224.fb_in1k": "model", "convnext_atto": "state_dict_ema", "levit_128s": "model"}


@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm(name: str, tmp_path: Path) -> None:
    state = shaken(timm.create_model(name))
    if name in WRAPPED:
        torch.save({WRAPPED[name]: state}, path := tmp_path / "published.pth")
    else:
        save_file({key: value.contiguous() for key, value in state.items()}, path := tmp_path / "published.safetensors")
    theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    how = resolve_model_data_config(theirs)
    see = create_transform(**how | {"crop_pct": 1.0, "crop_mode": "squash"})
    guide = load_guide(f"timm:{name}", outputs=1000, image_size=256, weights=path, folder=tmp_path)
    check(guide, theirs, see, 256)


# -- transformers -------------------------------------------------------------------------------------

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
        "image_size": 32, "patch_size": 8}  # fmt: skip
STAGES = {"depths": [1, 1], "hidden_sizes": [8, 16]}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
WHOLE = {"do_center_crop": False, "size": {"height": 32, "width": 32}}
DPT = TINY | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "fusion_hidden_size": 8, "patch_size": 16,
              "neck_hidden_sizes": [16, 16, 16, 16]}  # fmt: skip
BIT = {"model_type": "bit", "embedding_size": 8, "hidden_sizes": [16, 32, 16, 16], "depths": [1, 1, 1],
       "num_groups": 4, "out_features": ["stage1", "stage2", "stage3"]}  # fmt: skip
HYBRID = DPT | {"is_hybrid": True, "reassemble_factors": [1, 1, 1, 0.5], "backbone_config": BIT,
                "backbone_featmap_shape": [1, 16, 2, 2], "neck_hidden_sizes": [16, 32, 16, 16]}  # fmt: skip
DINO = TINY | {"model_type": "dinov2", "out_indices": [1, 2], "reshape_hidden_states": False}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
FOUR = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
LEVIT = {"image_size": 64, "hidden_sizes": [16] * 3, "num_attention_heads": [2] * 3, "depths": [1] * 3,
         "key_dim": [8] * 3}  # fmt: skip
DEPTH_ANYTHING = {"backbone_config": DINO, "reassemble_hidden_size": 16, "neck_hidden_sizes": [8, 8], "patch_size": 8,
                  "reassemble_factors": [2, 1], "fusion_hidden_size": 8, "head_hidden_size": 4,
                  "depth_estimation_type": "metric"}  # fmt: skip
MULTIPLE = {"size": {"height": 36, "width": 36}, "ensure_multiple_of": 8, "keep_aspect_ratio": True}
ZOE = {"neck_hidden_sizes": [16] * 4, "fusion_hidden_size": 8, "bottleneck_features": 8, "num_relative_features": 8,
       "bin_embedding_dim": 8, "num_attractors": [4, 2, 2, 1], "patch_transformer_hidden_size": 8,
       "patch_transformer_intermediate_size": 8, "patch_transformer_num_attention_heads": 2,
       "bin_configurations": [{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}],
       "backbone_config": TINY | {"model_type": "beit", "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4],
                                  "reshape_hidden_states": False}}  # fmt: skip
# what is stated: GLPN takes any size, and ZoeDepth's processor pads
STATED: dict[str, dict[str, Any]] = {
    "glpn": {"image_size": 80, "input_size": 64},
    "zoedepth": {"image_size": 32, "input_size": 32, "mean": (0.5,), "std": (0.5,), "interpolation": "bilinear",
                 "antialias": True},
}  # fmt: skip
METRES = ("depth_anything", "glpn", "zoedepth")
OFFSET = {"rescale_offset": True, "rescale_factor": 1 / 127.5}
ARCHITECTURES = {"deit": ["DeiTForImageClassification"], "levit": ["LevitForImageClassification"]}
# a model and its processor; its configuration, the processor's, and with what that shows the whole image
TRANSFORMERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "beit Beit": (TINY, SQUARE, {}),
    "bit Bit": (STAGES | {"embedding_size": 8, "num_groups": 4}, CROPPED, WHOLE),
    "convnext ConvNext": (STAGES | {"num_stages": 2}, {"size": {"shortest_edge": 32}}, {"crop_pct": 1.0}),
    "deit DeiT": (TINY, CROPPED, WHOLE),
    "dinov2 Bit": (TINY, CROPPED, WHOLE),
    "focalnet Bit": ({"image_size": 32, "embed_dim": 8, "depths": [1, 1]}, CROPPED, WHOLE),
    "levit Levit": (
        LEVIT,
        {"size": {"shortest_edge": 64}, "crop_size": 64},
        WHOLE | {"size": {"height": 64, "width": 64}},
    ),
    "mobilenet_v1 MobileNetV1": ({"depth_multiplier": 0.25}, CROPPED, WHOLE),
    "mobilenet_v2 MobileNetV2": ({"depth_multiplier": 0.25}, CROPPED, WHOLE),
    "poolformer PoolFormer": (FOUR, SQUARE | {"crop_size": 32}, WHOLE | {"crop_pct": 1.0}),
    "pvt Pvt": ({"image_size": 32} | FOUR, SQUARE, {}),
    "regnet ConvNext": (STAGES | {"embedding_size": 8, "groups_width": 8}, {"size": {"shortest_edge": 384}}, {}),
    "resnet EfficientNet": (STAGES | {"embedding_size": 8}, SQUARE | OFFSET, {}),
    "siglip Siglip": ({"vision_config": TINY}, SQUARE, {}),
    "swin ViT": (SWIN, SQUARE, {}),
    "swinv2 ViT": (SWIN, SQUARE, {}),
    "vit ViT": (TINY, SQUARE | {"do_normalize": False}, {}),
    "dpt DPT": (DPT, SQUARE, {}),
    "dpt DPT segmentation": (DPT, SQUARE | {"do_reduce_labels": True}, {}),
    "dpt DPT depth hybrid": (HYBRID, SQUARE, {}),
    "depth_anything DPT": (DEPTH_ANYTHING, MULTIPLE, {}),
    "glpn GLPN": (FOUR, {}, {}),
    "zoedepth ZoeDepth": (ZOE, SQUARE, {"do_pad": False}),
    "segformer Segformer": (FOUR, SQUARE, {}),
}
CLASSES = {"classification": "ImageClassification", "depth": "DepthEstimation", "segmentation": "SemanticSegmentation"}
TASKS = dict.fromkeys(("dpt", *METRES), "depth") | {"segformer": "segmentation"}


@pytest.mark.parametrize("case", TRANSFORMERS)
def test_a_model_of_transformers(case: str, tmp_path: Path) -> None:
    (kind, processor, *of), (settings, seen, whole) = case.split(), TRANSFORMERS[case]
    task, folder = of[0] if of else TASKS.get(kind, "classification"), tmp_path / "model"
    labels: dict[str, Any] = {"architectures": ARCHITECTURES.get(kind)} | ({} if task == "depth" else {"num_labels": 7})
    auto = getattr(transformers, f"AutoModelFor{CLASSES[task]}")
    network = auto.from_config(AutoConfig.for_model(kind, **settings, **labels))
    shaken(network)
    network.save_pretrained(folder)
    getattr(transformers, f"{processor}ImageProcessor")(**seen).save_pretrained(folder)
    theirs, own = auto.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    theirs.register_forward_hook(
        lambda network, images, answers: answers["predicted_depth" if task == "depth" else "logits"]
    )
    if kind in METRES:
        theirs.register_forward_hook(lambda network, images, metres: 1 / metres.clamp(min=1e-3))
    about = STATED.get(kind, {"image_size": 48})
    guide = load_guide(f"transformers:{folder}", task, outputs=7, **about, folder=tmp_path)
    see = lambda x: own(list(255 * x), return_tensors="pt", **whole).pixel_values  # noqa: E731
    check(guide, theirs, see, about["image_size"])
