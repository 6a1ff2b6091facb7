"""Checkpoints of the public ADM code, in each of its variants: names and answers as that code has them."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

import ppap
from ppap.config import reading as presets
from ppap.utils.errors import ConfigError, DataError
from ppap.workflow import networks
from ppap.workflow.layout import Layout
from tests.conftest import CIFAR10, ROOT
from tests.conftest import ppap as command

TINY = {"model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_factors": (2,),
        "head_channels": 16}  # fmt: skip
DEFAULTS = {"resblock_updown": True, "use_scale_shift_norm": True, "use_new_attention_order": False,
            "learn_sigma": True, "num_heads": None}  # fmt: skip


def shapes(flags: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a checkpoint of guided_diffusion/unet.py, UNetModel, with these flags."""
    flags, made = DEFAULTS | flags, {}
    width = flags["model_channels"]
    emb, channels = 4 * width, [int(m * width) for m in flags["channel_mult"]]

    def layer(name: str, *shape: int) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = shape, shape[:1]

    def res(name: str, seen: int, out: int) -> None:
        layer(f"{name}.in_layers.0", seen)
        layer(f"{name}.in_layers.2", out, seen, 3, 3)
        layer(f"{name}.emb_layers.1", out * (2 if flags["use_scale_shift_norm"] else 1), emb)
        layer(f"{name}.out_layers.0", out)
        layer(f"{name}.out_layers.3", out, out, 3, 3)
        if seen != out:
            layer(f"{name}.skip_connection", out, seen, 1, 1)

    def attention(name: str, seen: int) -> None:
        layer(f"{name}.norm", seen)
        layer(f"{name}.qkv", 3 * seen, seen, 1)
        layer(f"{name}.proj_out", seen, seen, 1)

    layer("time_embed.0", emb, width)
    layer("time_embed.2", emb, emb)
    layer("input_blocks.0.0", channels[0], 3, 3, 3)
    seen, block, skips = channels[0], 1, [channels[0]]
    for level, out in enumerate(channels):
        for _ in range(flags["num_res_blocks"]):
            res(f"input_blocks.{block}.0", seen, out)
            if 2**level in flags["attention_factors"]:
                attention(f"input_blocks.{block}.1", out)
            seen, block = out, block + 1
            skips.append(out)
        if level < len(channels) - 1:
            if flags["resblock_updown"]:
                res(f"input_blocks.{block}.0", out, out)
            else:
                layer(f"input_blocks.{block}.0.op", out, out, 3, 3)
            block += 1
            skips.append(out)
    res("middle_block.0", seen, seen)
    attention("middle_block.1", seen)
    res("middle_block.2", seen, seen)
    block = 0
    for level, out in reversed(list(enumerate(channels))):
        for number in range(flags["num_res_blocks"] + 1):
            res(f"output_blocks.{block}.0", seen + skips.pop(), out)
            seen, part = out, 1
            if 2**level in flags["attention_factors"]:
                attention(f"output_blocks.{block}.1", out)
                part = 2
            if level and number == flags["num_res_blocks"]:
                if flags["resblock_updown"]:
                    res(f"output_blocks.{block}.{part}", out, out)
                else:
                    layer(f"output_blocks.{block}.{part}.conv", out, out, 3, 3)
            block += 1
    layer("out.0", seen)
    layer("out.2", 6 if flags["learn_sigma"] else 3, channels[0], 3, 3)
    return made


def answer(w: dict[str, Tensor], x: Tensor, t: Tensor, flags: dict[str, Any]) -> Tensor:
    """What UNetModel answers, for t as its caller gives it."""
    flags = DEFAULTS | flags

    def conv(name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def res(name: str, x: Tensor, resize: Any = lambda x: x) -> Tensor:
        h = conv(f"{name}.in_layers.2", resize(F.silu(norm(f"{name}.in_layers.0", x))), padding=1)
        x, told = resize(x), linear(f"{name}.emb_layers.1", F.silu(emb))[..., None, None]
        if flags["use_scale_shift_norm"]:
            scale, shift = told.chunk(2, 1)
            h = norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = norm(f"{name}.out_layers.0", h + told)
        skip = conv(f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in w else x
        return skip + conv(f"{name}.out_layers.3", F.silu(h), padding=1)

    def attention(name: str, x: Tensor) -> Tensor:
        b, c, h, side = x.shape
        flat = x.reshape(b, c, -1)
        qkv = F.conv1d(norm(f"{name}.norm", flat), w[f"{name}.qkv.weight"], w[f"{name}.qkv.bias"])
        heads = flags["num_heads"] or c // flags["head_channels"]
        if flags["use_new_attention_order"]:
            q, k, v = (part.reshape(b * heads, c // heads, -1) for part in qkv.chunk(3, 1))
        else:
            q, k, v = qkv.reshape(b * heads, 3 * c // heads, -1).split(c // heads, 1)
        weight = (torch.einsum("bct,bcs->bts", q, k) / math.sqrt(c // heads)).softmax(-1)
        read = torch.einsum("bts,bcs->bct", weight, v).reshape(b, c, -1)
        out = F.conv1d(read, w[f"{name}.proj_out.weight"], w[f"{name}.proj_out.bias"])
        return (flat + out).reshape(b, c, h, side)

    def half(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def double(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    dim = flags["model_channels"]
    angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2))
    emb = linear("time_embed.2", F.silu(linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], -1))))
    h = conv("input_blocks.0.0", x, padding=1)
    skips, each, levels = [h], flags["num_res_blocks"], len(flags["channel_mult"])
    for block in range(1, (each + 1) * levels):
        name = f"input_blocks.{block}"
        if block % (each + 1):
            h = res(f"{name}.0", h)
            h = attention(f"{name}.1", h) if f"{name}.1.qkv.weight" in w else h
        else:
            plain = f"{name}.0.op.weight" in w
            h = conv(f"{name}.0.op", h, stride=2, padding=1) if plain else res(f"{name}.0", h, half)
        skips.append(h)
    h = res("middle_block.2", attention("middle_block.1", res("middle_block.0", h)))
    for block in range((each + 1) * levels):
        name, part = f"output_blocks.{block}", 1
        h = res(f"{name}.0", torch.cat([h, skips.pop()], 1))
        if f"{name}.1.qkv.weight" in w:
            h, part = attention(f"{name}.1", h), 2
        if f"{name}.{part}.conv.weight" in w:
            h = conv(f"{name}.{part}.conv", double(h), padding=1)
        elif f"{name}.{part}.in_layers.0.weight" in w:
            h = res(f"{name}.{part}", h, double)
    return conv("out.2", F.silu(norm("out.0", h)), padding=1)


def checkpoint(path: Path, flags: dict[str, Any]) -> dict[str, Tensor]:
    """A file with random weights, none of them zero."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=generator) / max(1, math.prod(shape[1:])) ** 0.5
        for name, shape in shapes(flags).items()
    }
    torch.save(state, path)
    return state


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"resblock_updown": False},
        {"num_heads": 4},
        {"use_scale_shift_norm": False, "resblock_updown": False},
        {"use_new_attention_order": True},
        {"learn_sigma": False},
        {"channel_mult": (1, 1.5), "model_channels": 64},  # as in the public models of 512 pixels
    ],
    ids=str,
)
def test_a_variant_of_the_public_code_answers_as_that_does(tmp_path: Path, changed) -> None:
    flags = {k: v for k, v in {**TINY, **changed}.items() if not (k == "head_channels" and "num_heads" in changed)}
    state = checkpoint(tmp_path / "adm.pt", flags)
    model = ppap.load_adm(tmp_path / "adm.pt", flags, 8, timesteps=4000)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 3201])
    torch.testing.assert_close(model.network(x, t), answer(state, x, t, flags), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trained_by", ["Ye et al.", "Nichol & Dhariwal"])
def test_the_cifar10_preset_takes_such_a_checkpoint_as_the_documentation_says(
    preset_file, tmp_path: Path, trained_by: str
) -> None:
    (told,) = re.findall(r"```yaml\n(diffusion:\n  weights.*?)```", (ROOT / "docs/scale.md").read_text(), re.S)
    diffusion = yaml.safe_load(told)["diffusion"]
    if trained_by == "Nichol & Dhariwal":  # the same network, of improved-diffusion
        diffusion |= {
            "noise_schedule": "cosine",
            "timesteps": 4000,
            "rescale_timesteps": True,
            "variance": "learned_range",
        }
        diffusion["architecture"]["learn_sigma"] = True
    diffusion["architecture"] |= {"model_channels": 32, "num_res_blocks": 1}
    state = checkpoint(tmp_path / "openai_cifar10.pt", diffusion["architecture"])
    halves = {name: value.half() for name, value in state.items()}
    torch.save({"model": halves, "epoch": 3}, tmp_path / "openai_cifar10.pt")
    diffusion["weights"]["url"] = str(tmp_path / "openai_cifar10.pt")
    path = preset_file(CIFAR10, diffusion=diffusion, runtime={"device": "cpu"})
    command("download", path, "diffusion", cwd=tmp_path)
    network = networks.load_diffusion(Layout(presets.load(path), tmp_path / "results"))
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([900])
    seen = t * 0.25 if diffusion.get("rescale_timesteps") else t
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    wanted = answer({name: value.float() for name, value in halves.items()}, x, seen, diffusion["architecture"])
    torch.testing.assert_close(network(x, t), wanted, rtol=1e-3, atol=1e-3)


def test_a_class_conditional_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(checkpoint(tmp_path / "adm.pt", TINY) | {"label_emb.weight": torch.zeros(1000, 128)}, tmp_path / "c.pt")
    with pytest.raises(DataError, match=r"^\S*c\.pt: is class-conditional \(label_emb\.weight\)[^\n]*$"):
        ppap.load_adm(tmp_path / "c.pt", TINY, 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_heads": 4}, "num_heads: stands in place of head_channels; give one of them"),
        ({"num_heads": 5, "head_channels": None}, "num_heads: 5 does not divide 64 channels"),
        ({"channel_mult": (0.01,)}, "norm_groups: 32 does not divide 0 channels"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(tmp_path: Path, changed, message: str) -> None:
    flags = {k: v for k, v in {**TINY, **changed}.items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        ppap.load_adm(tmp_path / "adm.pt", flags, 8)
