"""Options of the runtime: each gives the result of float32 but for rounding, and `auto` asks the processor."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from diffusers import UNet2DModel

from ppap.config import reading as presets
from ppap.data.images import to_tensor
from ppap.diffusion.networks import diffusers_source
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.schedules import Schedule
from ppap.experts.bank import ExpertBank
from ppap.experts.expert import Expert, ExpertHeader
from ppap.experts.lora import lora_shapes
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.utils import files, mixed_precision
from ppap.utils.device import Runtime
from ppap.utils.mixed_precision import autocast, hold_precision
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from tests.test_libraries_dense import DPT


class UNet(NamedTuple):
    """A network(x_t, t) that is frozen, and the channels of its images."""

    network: torch.nn.Module
    channels: int


def adm() -> UNet:
    arch = ADMArchitecture(
        in_channels=3, model_channels=16, channel_mult=(1, 2), num_res_blocks=1,
        attention_factors=(2,), head_channels=16, norm_groups=8, learn_sigma=True,
    )  # fmt: skip
    return UNet(ADM(arch), 3)


def of_diffusers() -> UNet:
    return UNet(
        diffusers_source.UNet(
            UNet2DModel(
                sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            )
        ),
        3,
    )  # fmt: skip


@pytest.mark.parametrize("make", [adm, of_diffusers])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_weights_that_are_held_in_half_give_the_same_numbers(make: Callable[[], UNet], precision: str) -> None:
    """Autocast rounds the weights at each call; here they are rounded once. Gradients for x_t are the same too."""
    torch.manual_seed(0)
    network, channels = make()
    for parameter in network.eval().requires_grad_(False).parameters():
        parameter.normal_(std=0.05)
    held, how = deepcopy(network), Runtime(device="cpu", precision=precision)
    hold_precision(held, how)
    x, t = torch.randn(2, channels, 16, 16), torch.tensor([3, 700])

    def answered(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        seen = x.clone().requires_grad_()
        with autocast(how):
            out = network(seen, t)
        (gradient,) = torch.autograd.grad(out.float().square().sum(), seen)
        return out, gradient

    for mine, theirs in zip(answered(held), answered(network), strict=True):
        assert torch.equal(mine, theirs)
    size, plain = (sum(p.nbytes for p in each.parameters()) for each in (held, network))
    assert size == plain if precision == "float32" else size < 0.55 * plain


GUIDES = {
    "timm:resnet18": ({"channels": [8, 8, 16, 16]}, Shape(3, 4)),
    "timm:vit_tiny_patch16_224": ({"img_size": 32, "patch_size": 8, "depth": 2}, Shape(3, 4)),
    "torchvision:lraspp_mobilenet_v3_large": ({}, Shape(3, 4, "segmentation")),
    "transformers:x/y": (DPT, Shape(3, 1, "depth")),
}


@pytest.mark.parametrize("model", GUIDES)
def test_guides_that_hold_their_weights_in_half_say_the_same(model: str) -> None:
    torch.manual_seed(0)
    options, shape = GUIDES[model]
    network = build_network(model, options, shape).eval().requires_grad_(False)
    how = Runtime(device="cpu", precision="bfloat16")
    held = hold_precision(deepcopy(network), how)
    x = torch.randn(2, 3, 32, 32)
    with autocast(how):
        assert torch.equal(held(x), network(x))


def test_experts_are_merged_before_they_are_rounded() -> None:
    torch.manual_seed(0)
    options, shape = GUIDES["timm:resnet18"]
    network = build_network("timm:resnet18", options, shape).eval().requires_grad_(False)
    how = Runtime(device="cpu", precision="bfloat16")
    banks = [bank(deepcopy(network)) for _ in range(2)]
    hold_precision(banks[0].guide, how)
    x = torch.randn(2, 3, 32, 32)
    with autocast(how):
        for log_snr in Schedule.create("linear", 30).log_snr[[2, 14, 2, 24, 14]]:
            assert torch.equal(banks[0].at(x, log_snr), banks[1].at(x, log_snr))
    stored = {p.dtype for p in banks[0].guide.parameters()}
    assert stored == {torch.bfloat16, torch.float32}  # norms stay


def bank(network: torch.nn.Module) -> ExpertBank:
    """Experts at random: one changes all layers but the last one, one biases alone, one nothing but a norm."""
    generator = torch.Generator().manual_seed(1)
    about = {"guide": "g", "timesteps": 30, "noise_schedule": "linear", "lora_scale": 0.5,
             "trainable_parameters": 1, "guide_parameters": 2}  # fmt: skip
    experts = []
    for number, part in enumerate(("layer1.0.conv1.weight", "fc.bias", "bn1.weight")):
        weight = network.state_dict()[part]
        if weight.dim() == 4:
            shapes = dict(zip((".lora_A", ".lora_B"), lora_shapes(weight.shape, 2), strict=True))
        else:
            shapes = {"": tuple(weight.shape)}
        changed = {f"{part}{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        header = ExpertHeader(**about, range_start=10 * number, range_stop=10 * number + 10)
        experts.append(Expert(Path(f"expert_{number}"), header, changed))
    return ExpertBank(Guide(network, 32, (0.5,), (0.5,)), experts)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, capabilities, precision) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))
    chosen = Runtime(device="cpu", precision="auto")
    assert mixed_precision.precision(chosen) == precision
    with autocast(chosen):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == precision


@pytest.mark.exhaustive
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="this machine has no C++ compiler")
def test_what_one_job_compiled_the_next_one_takes_up(tmp_path: Path, preset_file) -> None:
    """With kernels of the same networks in scratch/compiled, nothing new is compiled, and answers are the same."""
    (tmp_path / "tiny.py").write_text(
        "from torch import nn\n\n"
        "def build(channels, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes), nn.Softplus())"
    )
    guide = {"guides__resnet__model": "user:tiny.build", "guides__resnet__options": {}, "guides__resnet__input_size": 8}
    path = preset_file(runtime={"device": "cpu", "compile": True}, **guide)
    layout = Layout(presets.load(path), tmp_path / "results")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Softplus())
    files.write_tensors(layout.model("resnet"), network.state_dict())
    images = torch.randint(256, (2, 50, 8, 8, 1), dtype=torch.uint8)
    for shard in range(2):
        files.write_array(layout.clean(shard), images[shard].numpy())
    with torch.no_grad():
        answers = network(to_tensor(images.flatten(0, 1).numpy()))
    command = [sys.executable, "-m", "ppap", "label", str(path), "resnet"]
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    compiled = []
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        [labels] = layout.root.rglob("labels/**/*.safetensors")
        torch.testing.assert_close(files.read_tensors(labels)["image"].float(), answers, rtol=1e-4, atol=1e-4)
        labels.unlink()
        kernels = sorted((tmp_path / "scratch" / "compiled").rglob("*.so"))
        compiled.append({kernel: kernel.stat().st_mtime_ns for kernel in kernels})
    assert compiled[0] and compiled[0] == compiled[1]


def test_weights_are_read_into_the_precision_that_they_are_held_in(smoke, tmp_path: Path) -> None:
    layout = Layout(smoke, tmp_path)
    files.write_tensors(layout.model("diffusion"), models.new_diffusion(layout).state_dict())
    how = Runtime(precision="bfloat16")
    at_once = models.load_diffusion(layout, how).state_dict()
    later = hold_precision(models.load_diffusion(layout), how).state_dict()
    assert at_once.keys() == later.keys()
    assert {value.dtype for value in at_once.values()} == {torch.bfloat16, torch.float32}
    for name, value in later.items():
        assert at_once[name].dtype == value.dtype and torch.equal(at_once[name], value), name
