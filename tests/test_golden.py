"""The networks, schedules and samplers against numbers of the reference implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ppap.diffusion import samplers
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import NoisyInputGuidance
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.samplers import SAMPLERS, State, respaced
from ppap.diffusion.schedules import Schedule
from ppap.guides.tasks.classification import class_log_probability

pytestmark = pytest.mark.fast
GOLDEN = Path(__file__).parent / "golden"
TINY = ADMArchitecture(model_channels=32, channel_mult=(1, 2, 2), attention_factors=(2, 4), head_channels=16)


@pytest.fixture(scope="module")
def tiny_adm() -> ADM:
    tensors = load_file(GOLDEN / "adm_tiny.safetensors")
    network = ADM(TINY)
    weights = {k[7:]: v.float() for k, v in tensors.items() if k.startswith("weight/")}
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * scale)


def test_tiny_adm_gives_the_reference_output(tiny_adm: ADM) -> None:
    golden = load_file(GOLDEN / "adm_tiny.safetensors")
    close(tiny_adm(golden["input/x"], golden["input/t"]), golden["output/eps_and_var"])


def test_full_size_adm_has_the_names_and_shapes_of_the_public_checkpoint() -> None:
    expected = json.loads((GOLDEN / "adm_imagenet256_uncond.keys.json").read_text())
    with torch.device("meta"):
        network = ADM(ADMArchitecture())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) == 552_814_086


@pytest.mark.parametrize(
    ("key", "kind", "steps"), [("ddim25", "ddim", 25), ("ddpm250", "ddpm", 250), ("ddpm100", "ddpm", 100)]
)
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_respaced_schedules_match_the_reference(key, kind, steps, name) -> None:
    tables = json.loads((GOLDEN / "sampler_tables.json").read_text())
    if f"{key}_{name}" not in tables:
        assert (key, name) == ("ddpm100", "cosine")  # the one pair the reference lacks
        return
    expected = tables[f"{key}_{name}"]
    schedule = respaced(Schedule.create(name, 1000), SAMPLERS.get(kind), steps)
    assert list(schedule.timesteps) == expected.pop("timesteps")
    for attribute, values in expected.items():
        np.testing.assert_allclose(getattr(schedule, attribute), values, rtol=1e-9, err_msg=attribute)


@pytest.mark.parametrize(("kind", "output"), [("ddim", "ddim"), ("ddpm", "ddpm")])
def test_guided_samplers_match_the_reference(tiny_adm: ADM, kind: str, output: str) -> None:
    golden = load_file(GOLDEN / "guided_samplers.safetensors")
    weight = golden["classifier/weight"]
    schedule = respaced(Schedule.create("linear", 1000), SAMPLERS.get(kind), 10)
    guidance = NoisyInputGuidance(
        lambda x, timestep: F.linear(x.flatten(1), weight), class_log_probability(golden["input/y"]), scale=7.5
    )
    steps = len(schedule)
    states = getattr(samplers, kind)(
        Denoiser(tiny_adm, schedule, "learned_range"),
        guidance,
        State(steps, golden["input/x_T"]),
        lambda step: golden["input/ddpm_noise"][steps - 1 - step],
        0.0 if kind == "ddim" else 1.0,
    )
    *_, last = states
    close(last.x, golden[f"output/{output}"])
