"""Experts guide diffusion networks that give no gradient: without autograd, exported, quantised."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

import ppap
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Clip

SHAPE = (4, 4, 4)
SCHEDULE = ppap.Schedule.create("flow", 100)
FEW = {"experts": 2, "training": {"steps": 4, "batch_size": 4}, "adapter": {"rank": 1, "freeze": ()}}


class Network(nn.Module):
    """Layers for each pixel, and a skip connection past them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 4))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        levels = (t / 100)[:, None, None, None].expand(-1, 1, *z.shape[2:])
        return 0.3 * z + self.layers(torch.cat([z, levels], 1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Asked(nn.Module):
    """A network that asks another one in a way of its own."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network


class Inference(Asked):
    @torch.inference_mode()
    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.network(z, t)


class Exported(Asked):
    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        (answer,) = self.network.run(None, {"z": z.numpy(), "t": t.numpy().astype(np.float32)})
        return torch.from_numpy(answer)


def exported(network: nn.Module, folder: Path) -> nn.Module:
    path, batch = folder / "network.onnx", {0: "batch"}
    torch.onnx.export(
        network, (torch.zeros(2, *SHAPE), torch.zeros(2)), path, input_names=["z", "t"],
        dynamic_axes={"z": batch, "t": batch}, dynamo=False,  # which takes half a second, the newer one a minute
    )  # fmt: skip
    return Exported(onnxruntime.InferenceSession(path))


def quantised(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})


def of_rounded_weights(quantised: nn.Module) -> nn.Module:
    """The same weights in float32; what goes into its layers is not rounded."""
    network = Network()
    for own, theirs in zip(network.layers, quantised.layers, strict=True):
        if isinstance(own, nn.Linear):
            own.weight.data, own.bias.data = theirs.weight().dequantize(), theirs.bias()
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def asked(network: Network, tmp_path_factory) -> dict[str, nn.Module]:
    return {
        "inference_mode": Inference(network),
        "exported": exported(network, tmp_path_factory.mktemp("exported")),
        "quantised": quantised(network),
    }


@pytest.fixture(scope="module")
def guide() -> ppap.Guide:
    torch.manual_seed(1)
    return ppap.wrap_guide(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3)), outputs=3, image_size=8)


def model_of(network: nn.Module, predicts: str = "flow") -> ppap.DiffusionModel:
    torch.manual_seed(2)
    sizes = {"encoder_block_out_channels": (4, 4), "num_encoder_blocks": (1, 1)}
    sizes |= {"decoder_block_out_channels": (4, 4), "num_decoder_blocks": (1, 1)}
    autoencoder = Autoencoder(AutoencoderTiny(**sizes))
    return ppap.DiffusionModel(network, SHAPE, SCHEDULE, "fixed_small", predicts, Clip(None), autoencoder)


def guided(model: ppap.DiffusionModel, bank: ppap.ExpertBank | ppap.Guide, **how: Any) -> np.ndarray:
    goal = ppap.Goal(bank, torch.tensor([0, 1, 2]), 400.0)
    return ppap.sample(model, 3, goal, sampler="euler", steps=5, decode=False, **how)


WAYS = ("inference_mode", "exported", "quantised")


@pytest.mark.parametrize("sees", ["x_t", "x0_hat"])
@pytest.mark.parametrize("way", WAYS)
def test_experts_guide_a_network_without_gradients_as_they_guide_it_with_them(
    network: Network, asked: dict[str, nn.Module], guide: ppap.Guide, way: str, sees: str
) -> None:
    """They learn of it, and are asked about what it answers, in training as well."""
    plain, other = model_of(network), model_of(asked[way])
    if way == "quantised":
        plain = model_of(of_rounded_weights(asked[way]))
    latents = ppap.sample(plain, 12, sampler="euler", steps=3, decode=False)
    expected = guided(plain, ppap.train_experts(guide, plain, latents, sees=sees, **FEW))
    drawn = guided(other, ppap.train_experts(guide, other, latents, sees=sees, **FEW))
    free = ppap.sample(plain, 3, sampler="euler", steps=5, decode=False)
    assert np.abs(expected - free).mean() > 0.1
    np.testing.assert_allclose(drawn, expected, atol=0.02 if way == "quantised" else 1e-4)


@pytest.mark.parametrize("sees", ["x_t", "x0_hat"])
def test_a_clean_image_from_inference_mode_is_looked_at_as_it_is(
    network: Network, guide: ppap.Guide, sees: str
) -> None:
    """It is the estimate of x_0 itself, without any arithmetic in between that would make it a normal tensor."""
    plain, other = (model_of(each, "x0") for each in (network, Inference(network)))
    latents = ppap.sample(plain, 12, sampler="euler", steps=3, decode=False)
    expected, drawn = (guided(m, ppap.train_experts(guide, m, latents, sees=sees, **FEW)) for m in (plain, other))
    np.testing.assert_allclose(drawn, expected, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_through_such_a_network_is_refused_in_a_line(
    asked: dict[str, nn.Module], guide: ppap.Guide, way: str, trained: bool
) -> None:
    """Not that through the skip connection, or through x_t itself, taken for all of it; parameters may ask for theirs."""
    odd = model_of(asked[way])
    if trained:
        odd = replace(odd, network=Biased(asked[way]))
    with pytest.raises(ppap.PPAPError, match=r"network gives no gradient for x_t .*; experts and") as error:
        guided(odd, guide, guidance="x0_gradient")
    assert "\n" not in str(error.value)
    assert np.isfinite(guided(odd, guide, guidance="x0_estimate")).all()


class Biased(Asked):
    """A network whose answer asks for a gradient, of a parameter alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.network(z, t).clone() + self.bias
