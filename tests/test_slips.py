"""Slips: an argument of a wrong type is named, whatever is called, and no error comes from within."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from torch import nn

import ppap
from ppap.diffusion.networks.adm import ADM
from ppap.utils import files
from ppap.workflow.layout import Layout
from tests.conftest import SMOKE
from tests.test_api import SHAPE, architecture

WRONG = (None, -1, "nonsense", object(), {"no": 3})
LEFT_OUT = ("PPAPError", "SamplingStep")  # which nobody makes


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Arguments with which each public function and class can be called; what is left out has a default."""
    folder = tmp_path_factory.mktemp("slips")
    (folder / "slip_models.py").write_text("from torch import nn\ndef network(): return nn.Flatten()\n")
    torch.manual_seed(0)
    schedule = ppap.Schedule.create("cosine", 20)
    network = ADM(architecture()).eval().requires_grad_(False)
    files.write_tensors(folder / "adm.safetensors", network.state_dict())
    guide = ppap.wrap_guide(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), outputs=4, image_size=8)
    model, images = ppap.DiffusionModel(network, SHAPE, schedule), np.zeros((4, 8, 8, 1), np.uint8)
    bank = ppap.train_experts(guide, model, images, experts=1, training={"steps": 1})
    bank.save(folder / "bank")
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), norm_num_groups=4,
                       down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1)  # fmt: skip
    pipeline = DDPMPipeline(unet, DDIMScheduler())
    drawing = {"model": model, "count": 2, "goals": [ppap.Goal(guide, 3)], "steps": 2}
    return {
        "AdapterConfig": {"layers": ("*",)},
        "DiffusionModel": {"network": network, "shape": SHAPE, "schedule": schedule},
        "ExpertBank": {"guide": guide, "experts": bank.experts},
        "FinishedRun": {"layout": Layout(ppap.open_run(SMOKE).preset)},
        "Goal": {"guide": guide, "target": 3},
        "Guide": {"network": network, "input_size": 8, "mean": (0.5,), "std": (0.5,)},
        "Schedule": {"timesteps": (0,), "betas": np.array([0.1]), "train_timesteps": 1},
        "Training": {"steps": 5},
        "guided": {"pipeline": pipeline, "goals": [ppap.Goal(guide, 3)]},
        "load_adm": {"path": folder / "adm.safetensors", "architecture": architecture().model_dump(), "image_size": 8},
        "load_experts": {"folder": folder / "bank", "guide": guide},
        "load_guide": {"model": "user:slip_models.network", "outputs": 4, "image_size": 8, "input_size": 8},
        "load_pipeline": {"pipeline": pipeline},
        "open_run": {"preset": SMOKE},
        "sample": drawing,
        "sampling_steps": drawing,
        "to_tensor": {"images": images},
        "to_uint8": {"x": torch.zeros(2, *SHAPE)},
        "train_experts": {"guide": guide, "model": model, "images": images, "experts": 1, "training": {"steps": 1}},
        "wrap_guide": {"network": network, "outputs": 4, "image_size": 8},
        "folder": folder,
    }  # fmt: skip


def do(call: Callable[..., Any], arguments: dict[str, Any]) -> None:
    done = call(**arguments)
    if inspect.isgenerator(done):
        next(done)
    elif isinstance(done, contextlib.AbstractContextManager):
        with done:
            pass


@pytest.mark.parametrize("name", sorted({*ppap.__all__} - {*LEFT_OUT}))
def test_a_wrong_argument_is_named_and_no_error_comes_from_within(calls, name: str, monkeypatch) -> None:
    monkeypatch.chdir(calls["folder"])
    call, right = getattr(ppap, name), calls[name]
    do(call, right)
    for argument in inspect.signature(call).parameters:
        for wrong in WRONG:
            try:
                do(call, right | {argument: wrong})
            except (TypeError, ppap.PPAPError) as error:
                named = (argument, str(wrong)[:40], getattr(wrong, "__name__", argument))
                assert any(name in str(error) for name in named), (argument, wrong, error)
            else:
                assert type(wrong) is not object, argument
