"""Adapters by patterns on families of timm and torchvision: where they land, what training moves, merging."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d, StdConv2d
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnetv2 import ResNetV2
from torch import nn
from torch.nn.utils import parametrize
from torchvision.models import VisionTransformer

from ppap.experts import lora as adapters
from ppap.experts.settings import AdapterConfig
from tests.conftest import ROOT

SIZE = 64


class Family(NamedTuple):
    """A tiny member, the patterns a user would write, and what they ought to reach."""

    build: Callable[[], nn.Module]
    layers: tuple[str, ...]
    train: tuple[str, ...]
    freeze: tuple[str, ...]
    adapted: set[str]  # layers that get LoRA
    besides: Callable[[str], bool]  # parameters trained besides, but for the head's
    weight: Callable[[str], str] = "{}.weight".format  # what is adapted of a layer


def made(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **options)


def is_bias(name: str) -> bool:
    return name.endswith(".bias")


def is_attention_bias(name: str) -> bool:
    return name.endswith(("_bias", ".bias")) and "norm" not in name


def is_main_path(name: str) -> bool:
    """All biases, and the weights of norms of the main path."""
    is_norm = any(part in name for part in ("bn", "norm")) and name.endswith(".weight")
    return is_bias(name) or (is_norm and "downsample" not in name and ".transition" not in name)


def is_mobile(name: str) -> bool:
    return is_main_path(name) or name.endswith("conv_dw.weight")


def blocks(pattern: str, *counts: int, **parts: tuple[str, ...]) -> set[str]:
    """Names from "blocks.{i}.{j}.{leaf}" for i with counts[i] values of j each."""
    leaves = parts["leaf"]
    return {
        pattern.format(i=i, j=j, leaf=leaf) for i, count in enumerate(counts) for j in range(count) for leaf in leaves
    }


BIAS, NO_NORM = ("*.bias",), ("head*", "*norm*")
ATTENTION = ("*.attn.qkv", "*.attn.proj")
RESNET = ("conv1", "layer*.conv1", "layer*.conv2")
RESNET_TRAIN = ("*.bias", "*bn?.weight")
MOBILE_TRAIN = ("*.bias", "*bn?.weight", "*.conv_dw.weight")
IN_RESNET = {"conv1", *(f"layer{i}.0.conv{j}" for i in (1, 2, 3, 4) for j in (1, 2))}

FAMILIES = {
    "resnet": Family(
        made("resnet50", layers=(1, 1, 1, 1), channels=(8, 8, 16, 16)),
        RESNET, RESNET_TRAIN, ("fc.*",), IN_RESNET, is_main_path,
    ),
    "resnext": Family(  # grouped 3x3 convolutions
        made("resnext50_32x4d", layers=(1, 1, 1, 1), cardinality=4, base_width=8, channels=(8, 8, 16, 16)),
        RESNET, RESNET_TRAIN, ("fc.*",), IN_RESNET, is_main_path,
    ),
    "resnetv2": Family(  # standardised weights
        lambda: ResNetV2((1, 1), channels=(16, 32), num_classes=5, stem_chs=8, conv_layer=StdConv2d, norm_layer=BatchNormAct2d),
        ("stem.conv", "stages.*.conv1", "stages.*.conv2"), ("*.bias", "*norm?.weight", "norm.weight"),
        ("head.*",),
        {"stem.conv", *blocks("stages.{i}.blocks.{j}.{leaf}", 1, 1, leaf=("conv1", "conv2"))}, is_main_path,
    ),
    "regnet": Family(
        made("regnety_002"),
        ("stem.conv", "s?.b*.conv1.conv", "s?.b*.conv2.conv"), ("*.bias", "*.bn.weight"),
        ("head.*", "*.downsample.bn.weight"),
        {"stem.conv", *(f"s{s}.b{b}.conv{c}.conv" for s, n in ((1, 1), (2, 1), (3, 4), (4, 7))
                        for b in range(1, n + 1) for c in (1, 2))}, is_main_path,
    ),
    "densenet": Family(
        made("densenet121", growth_rate=4, block_config=(2, 2)),
        ("features.conv0", "features.*.conv1", "features.*.conv2"), ("*.bias", "*.norm?.weight"),
        ("classifier.*",),
        {"features.conv0", *(f"features.denseblock{b}.denselayer{n}.conv{c}"
                             for b in (1, 2) for n in (1, 2) for c in (1, 2))}, is_main_path,
    ),
    "efficientnet": Family(
        made("efficientnet_b0"),
        ("conv_stem", "blocks.*.conv_pw", "blocks.*.conv_pwl"), MOBILE_TRAIN, ("classifier.*",),
        {"conv_stem", "blocks.0.0.conv_pw",
         *(f"blocks.{i}.{j}.{leaf}" for i, n in enumerate((0, 2, 2, 3, 3, 4, 1)) for j in range(n)
           for leaf in ("conv_pw", "conv_pwl"))}, is_mobile,
    ),
    "convnext": Family(
        made("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
        ("*.mlp.fc1", "*.mlp.fc2", "*.downsample.1"), ("*.bias", "*.conv_dw.weight"), ("head.*", "*norm*"),
        {*blocks("stages.{i}.blocks.{j}.{leaf}", 1, 1, 1, 1, leaf=("mlp.fc1", "mlp.fc2")),
         "stages.1.downsample.1", "stages.2.downsample.1", "stages.3.downsample.1"},
        lambda name: (is_bias(name) and "norm" not in name) or name.endswith("conv_dw.weight"),
    ),
    "vit": Family(
        made("vit_tiny_patch16_224", depth=2, embed_dim=24, img_size=SIZE),
        ATTENTION, BIAS, NO_NORM, blocks("blocks.{j}.{leaf}", 2, leaf=("attn.qkv", "attn.proj")),
        is_attention_bias,
    ),
    "deit": Family(  # distilled: two heads
        made("deit_tiny_distilled_patch16_224", depth=2, embed_dim=24, img_size=SIZE),
        ATTENTION, BIAS, NO_NORM, blocks("blocks.{j}.{leaf}", 2, leaf=("attn.qkv", "attn.proj")),
        is_attention_bias,
    ),
    "beit": Family(  # biases of q and v apart from the fused layer
        made("beit_base_patch16_224", depth=2, embed_dim=24, num_heads=2, img_size=SIZE),
        ATTENTION, ("*.bias", "*_bias"), NO_NORM,
        blocks("blocks.{j}.{leaf}", 2, leaf=("attn.qkv", "attn.proj")), is_attention_bias,
    ),
    "swin": Family(
        made("swin_tiny_patch4_window7_224", depths=(1, 2), embed_dim=24, num_heads=(1, 2), img_size=SIZE),
        (*ATTENTION, "*.downsample.reduction"), BIAS, NO_NORM,
        {"layers.1.downsample.reduction",
         *blocks("layers.{i}.blocks.{j}.{leaf}", 1, 2, leaf=("attn.qkv", "attn.proj"))}, is_attention_bias,
    ),
    "torchvision_vit": Family(  # PyTorch's own attention: q, k and v are a parameter, not a layer
        lambda: VisionTransformer(SIZE, 16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=5),
        ("*.self_attention", "*.self_attention.out_proj"), ("*.bias", "*_bias"), ("head*", "*ln*"),
        {f"encoder.layers.encoder_layer_{i}.self_attention{p}" for i in (0, 1) for p in ("", ".out_proj")},
        lambda name: name.endswith(("_bias", ".bias")) and ".ln" not in name,
        lambda layer: f"{layer}.{'weight' if layer.endswith('out_proj') else 'in_proj_weight'}",
    ),
    "mixer": Family(
        lambda: MlpMixer(num_classes=5, img_size=SIZE, patch_size=16, num_blocks=2, embed_dim=24),
        ("*.mlp_tokens.fc?", "*.mlp_channels.fc?"), BIAS, NO_NORM,
        blocks("blocks.{j}.{leaf}", 2, leaf=tuple(f"mlp_{m}.fc{n}" for m in ("tokens", "channels") for n in (1, 2))),
        is_attention_bias,
    ),
}  # fmt: skip


def heads(network: nn.Module) -> set[str]:
    """The parameters of the classification heads, as timm tells them."""
    names = getattr(network, "default_cfg", {}).get("classifier", "head")
    prefixes = tuple([names] if isinstance(names, str) else names)
    return {name for name, _ in network.named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_land_where_they_are_meant_to(name: str) -> None:
    family = FAMILIES[name]
    torch.manual_seed(0)
    network = family.build()
    wake(network)
    base = {k: v.clone() for k, v in network.state_dict().items()}
    head = heads(network)
    assert len(head) >= 2
    besides = {n for n, p in network.named_parameters() if family.besides(n) and not n.startswith("head")} - head
    x = torch.randn(4, 3, SIZE, SIZE)
    before = network.eval()(x)
    config = AdapterConfig(rank=3, alpha=6, layers=family.layers, train=family.train, freeze=family.freeze)
    adapters.attach(network, config)
    torch.testing.assert_close(network(x), before)

    adapted = {name for name, m in network.named_modules() if parametrize.is_parametrized(m)}
    assert adapted == family.adapted
    factors = {f"{family.weight(layer)}.{f}" for layer in adapted for f in ("lora_A", "lora_B")}
    trained = {plain(n) for n, p in network.named_parameters() if p.requires_grad}
    assert trained == factors | besides

    one_step(network, x)
    one_step(network, x)  # A has no gradient as long as B is zero
    changed = adapters.delta(network, base)
    statistics = {n for n in base if "running_" in n}
    assert factors <= set(changed) <= factors | besides | statistics
    assert all(changed[factor].abs().max() > 0 for factor in factors)
    assert not head & set(changed)

    after = network.eval()(x)
    assert not torch.allclose(after, before)
    merged = family.build().eval()
    merged.load_state_dict(base | adapters.merge(base, changed, config.alpha / config.rank))
    torch.testing.assert_close(merged(x), after, rtol=1e-3, atol=1e-4)


def wake(network: nn.Module) -> None:
    """Norms that start at zero would let no gradient through; a pretrained model has none."""
    for name, parameter in network.named_parameters():
        if name.endswith("weight") and not parameter.any():
            nn.init.ones_(parameter)


def one_step(network: nn.Module, x: torch.Tensor) -> None:
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-2, weight_decay=0.05)
    output = network.train()(x)
    logits = sum(output) if isinstance(output, tuple) else output  # two heads give two in training
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    optimizer.step()
    network.zero_grad()


def plain(name: str) -> str:
    module, parametrized, rest = name.partition(".parametrizations.")
    return f"{module}.{rest.replace('.0.', '.')}" if parametrized else module


@pytest.mark.parametrize(
    "name",
    [
        "resnet50", "resnext50_32x4d", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224", "densenet121", "mixer_b16_224", "torchvision/squeezenet1_1", "torchvision/vit_b_16",
    ],
)  # fmt: skip
def test_by_default_at_most_a_quarter_is_trained_of_heads_and_grouped_layers_nothing(name: str) -> None:
    library, _, model = name.rpartition("/")
    with torch.device("meta"):
        network = torchvision.models.get_model(model) if library else timm.create_model(model)
        size = sum(p.numel() for p in network.parameters())
        adapters.attach(network, AdapterConfig())
    adapted = {n: m for n, m in network.named_modules() if parametrize.is_parametrized(m)}
    assert len(adapted) > 5 and all(getattr(layer, "groups", 1) == 1 for layer in adapted.values())
    assert 0.002 < adapters.trainable_parameters(network) / size <= 0.25
    trained = {plain(n) for n, p in network.named_parameters() if p.requires_grad}
    assert not any(n.startswith(tuple(heads(network))) for n in trained)


def test_the_readme_of_config_lists_these_patterns() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    for family in FAMILIES.values():
        assert all(f"`{p}`" in text for p in (*family.layers, *family.train, *family.freeze))
