"""How networks run: each option gives float32's result but for rounding, and `auto` asks the processor."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import torch

from ppap.networks import runtime
from ppap.preset import Runtime
from ppap.storage import files
from tests.conftest import SMOKE, ppap

EXPERT = "experts/resnet/warm_teacher_adapter.safetensors"
SAMPLES = "samples/ddim25/resnet/naive/0000.npy"
GREY_LEVELS = {"bfloat16": 8.0, "float16": 2.0, "channels_last": 0.1}  # of 256, on average


class Plain(NamedTuple):
    """A folder with the smoke preset's results up to its labels, and what float32 makes of them."""

    folder: Path
    images: np.ndarray
    loss: float


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Plain:
    folder = tmp_path_factory.mktemp("float32")
    for step in (["pretrain", SMOKE, "diffusion"], ["pretrain", SMOKE, "resnet"],
                 ["generate", SMOKE, "--shard", 0], ["generate", SMOKE, "--shard", 1],
                 ["label", SMOKE, "resnet"]):  # fmt: skip
        ppap(*step, cwd=folder)
    return Plain(folder, drawn(SMOKE, folder), loss(SMOKE, folder))


def drawn(preset: Path, folder: Path) -> np.ndarray:
    ppap("sample", preset, "ddim25", "resnet", "naive", "--shard", 0, cwd=folder)
    return np.load(folder / "results" / "smoke" / SAMPLES).astype(int)


def loss(preset: Path, folder: Path) -> float:
    ppap("warm-start", preset, "resnet", "teacher", "adapter", cwd=folder)
    return float(files.read_metadata(folder / "results" / "smoke" / EXPERT)["final_loss"])


@pytest.mark.parametrize("option", GREY_LEVELS)
def test_an_option_changes_samples_and_training_by_rounding_only(
    plain: Plain, preset_file: Callable[..., Path], option: str
) -> None:
    chosen = {"channels_last": True} if option == "channels_last" else {"precision": option}
    preset = preset_file(runtime={"device": "cpu"} | chosen)
    images = drawn(preset, plain.folder)
    assert np.abs(images - plain.images).mean() < GREY_LEVELS[option]
    assert option == "channels_last" or (images != plain.images).any(), "nothing in half precision"
    assert loss(preset, plain.folder) == pytest.approx(plain.loss, rel=0.05)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64", "bf16": True}, torch.bfloat16),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, capabilities, precision) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))
    chosen = Runtime(device="cpu", precision="auto")
    assert runtime.precision(chosen) == precision
    with runtime.autocast(chosen):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == precision


def test_a_named_precision_is_taken_at_its_word(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType({}))
    for name in ("float32", "bfloat16", "float16"):
        with runtime.autocast(Runtime(device="cpu", precision=name)):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, name)
