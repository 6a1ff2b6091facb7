"""Latent diffusion: autoencoders, views of latents, and experts of what they look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

import ppap
from ppap.data.images import to_tensor
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Clip
from ppap.diffusion.schedules import Schedule
from ppap.experts.expert import read_expert
from ppap.guides.views import LinearView
from ppap.utils.errors import ConfigError, DataError

pytestmark = pytest.mark.fast
SHAPE = (4, 8, 8)
SCHEDULE = Schedule.create("flow", 100)
FEW = {"experts": 2, "training": {"steps": 4, "batch_size": 4}, "adapter": {"rank": 1, "freeze": ()}}


def kl(seed: int = 0, latent_channels: int = 4, out_channels: int = 3) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 3, latent_channels=latent_channels,
        up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=2, layers_per_block=1, out_channels=out_channels,
    )  # fmt: skip


class Velocity(nn.Module):
    """A flow's network of a few numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return 0.3 * self.layer(z)


@pytest.fixture(scope="module")
def model() -> ppap.DiffusionModel:
    torch.manual_seed(0)
    network = Velocity().requires_grad_(False)
    return ppap.DiffusionModel(network, SHAPE, SCHEDULE, "fixed_small", "flow", Clip(None), Autoencoder(kl(), 0.5, 0.1))


@pytest.fixture(scope="module")
def guide() -> ppap.Guide:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 15 * 15, 3))
    return ppap.wrap_guide(layers, outputs=3, image_size=32)


@pytest.fixture(scope="module")
def latents(model: ppap.DiffusionModel) -> np.ndarray:
    return ppap.sample(model, 12, sampler="euler", steps=3, decode=False)


def test_latents_are_drawn_as_numbers_and_decoded_to_pictures(model, latents) -> None:
    assert latents.shape == (12, *SHAPE) and latents.dtype == np.float32
    pictures = ppap.sample(model, 12, sampler="euler", steps=3)
    assert pictures.shape == (12, 32, 32, 3) and pictures.dtype == np.uint8
    expected = kl().eval().decode(torch.from_numpy(latents) / 0.5 + 0.1).sample
    torch.testing.assert_close(to_tensor(pictures), expected.clamp(-1, 1), atol=0.01, rtol=0)


@pytest.mark.parametrize("network", [kl(), AutoencoderTiny(latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))])  # fmt: skip
def test_scale_and_shift_are_those_of_diffusers(network: nn.Module) -> None:
    autoencoder, pictures = Autoencoder(network, 2.0, 0.25), torch.rand(3, 3, 16, 16) * 2 - 1
    answer = network.encode(pictures)
    raw = answer.latent_dist.mode() if hasattr(answer, "latent_dist") else answer.latents
    torch.testing.assert_close(autoencoder.encode(pictures), (raw - 0.25) * 2)
    torch.testing.assert_close(autoencoder.decode((raw - 0.25) * 2), network.decode(raw).sample)


def test_the_linear_view_is_the_least_squares_one() -> None:
    torch.manual_seed(0)
    weight, latents = torch.randn(3, 4), torch.randn(20, 4, 6, 6)
    pictures = torch.einsum("oc,nchw->nohw", weight, latents) + 0.5
    view = LinearView.fitted(latents, pictures.repeat_interleave(4, 2).repeat_interleave(4, 3))
    torch.testing.assert_close(view.weight, weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(view(latents), pictures, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_view_is_resized_under_autocast_as_without(model: ppap.DiffusionModel, interpolation: str) -> None:
    latents = torch.randn(70, *SHAPE)
    view = LinearView.fitted(latents, model.pictures(latents))
    guide = ppap.Guide(nn.Identity(), 32, (0.5,) * 3, (0.5,) * 3, interpolation=interpolation, view=view)
    with torch.autocast("cpu", torch.bfloat16):
        seen = guide.prepare(latents)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, guide.prepare(latents), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("sees", ["x_t", "x0_hat"])
@pytest.mark.parametrize("view", ["linear", "decoder"])
def test_experts_of_latents_are_saved_with_all_that_they_look_at(
    model, guide, latents, tmp_path: Path, sees: str, view: str
) -> None:
    bank = ppap.train_experts(guide, model, latents, sees=sees, view=view, **FEW)
    guided = ppap.sample(model, 3, ppap.Goal(bank, 1, 3.0), sampler="euler", steps=4)
    bank.save(tmp_path)
    header = read_expert(tmp_path / "expert_1.safetensors").header
    assert (header.sees, header.view, header.latent_scale, header.latent_shift) == (sees, view, "0.5", "0.1")
    assert header.predicts == ("flow" if sees == "x0_hat" else None)
    assert ("latent_view_weight" in bank.experts[0].tensors()) == (view == "linear")
    again = ppap.load_experts(tmp_path, guide, model)
    np.testing.assert_array_equal(ppap.sample(model, 3, ppap.Goal(again, 1, 3.0), sampler="euler", steps=4), guided)
    assert guide.view is None and not hasattr(guide.network, "latent_view_weight")


@pytest.mark.parametrize("kind", ["off_the_shelf", "x0_gradient", "x0_estimate", "mpgd"])
def test_a_guide_of_pictures_raises_its_target_through_the_decoder(model, kind: str) -> None:
    def red(pictures: Tensor) -> Tensor:
        return pictures[:, 0].mean((1, 2))

    free = ppap.sample(model, 4, sampler="euler", steps=10, decode=False)
    goal = ppap.Goal(None, objective=red, scale=300.0)
    pulled = ppap.sample(model, 4, goal, guidance=kind, sampler="euler", steps=10, decode=False)
    before, after = (red(model.pictures(torch.from_numpy(each))) for each in (free, pulled))
    assert (after > before).all()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Autoencoder(kl(), 0.6, 0.1), r"was trained on latents of scale 0.5.*not on latents of scale 0.6"),
        (Autoencoder(kl(1), 0.5, 0.1), r"decoder \w+, not on .* decoder"),
        (None, r"not on pixels"),
    ],
)
def test_experts_of_other_latents_are_refused(model, guide, latents, other: Autoencoder | None, said: str) -> None:
    bank = ppap.train_experts(guide, model, latents, **FEW)
    with pytest.raises(DataError, match=said):
        ppap.sample(replace(model, autoencoder=other), 2, ppap.Goal(bank, 1), sampler="euler", steps=2)


def test_estimates_of_another_prediction_are_refused(model, guide, latents) -> None:
    bank = ppap.train_experts(guide, model, latents, sees="x0_hat", **FEW)
    with pytest.raises(DataError, match="estimates of a network that predicts flow, not v"):
        ppap.sample(replace(model, predicts="v"), 2, ppap.Goal(bank, 1), sampler="euler", steps=2)


@pytest.mark.parametrize("images", [np.zeros((4, 8, 8, 4), np.uint8), np.zeros((4, 4, 8, 9), np.float32)])
def test_images_that_are_no_latents_are_named(model, guide, latents, images: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"images: .*; latents, floats \(N, \*\(4, 8, 8\)\), were expected"):
        ppap.train_experts(guide, model, images, **FEW)
    with pytest.raises(ConfigError, match="mirror: the mirror image of a latent"):
        ppap.train_experts(guide, model, latents, mirror=True, **FEW)


@pytest.mark.parametrize(
    ("pixels", "view", "said"),
    [
        (False, "pixels", "view: 'pixels' .str.; .*'linear', 'decoder'"),
        (False, Autoencoder(kl(out_channels=4)), "view: decodes pictures of 4 channels; 3 were expected"),
        (True, "decoder", "view: is one of latents; the diffusion model draws pixels"),
    ],
)
def test_a_view_that_does_not_fit_is_refused_before_the_guide_is_asked(
    model, guide, latents, pixels: bool, view: Any, said: str
) -> None:
    if pixels:
        model, latents = replace(model, autoencoder=None), np.zeros((12, 8, 8, 4), np.uint8)
    asked = guide.network.register_forward_hook(lambda *call: pytest.fail("the guide was asked"))
    with pytest.raises(ConfigError, match=said) as refused:
        ppap.train_experts(guide, model, latents, view=view, **FEW)
    asked.remove()
    assert "\n" not in str(refused.value)


def test_a_linear_view_of_other_latents_is_refused(model, guide) -> None:
    looking = ppap.Guide(guide.network, 32, (0.5,), (0.5,), view=LinearView(16))
    goal = ppap.Goal(looking, objective=lambda answers: answers[:, 0])
    with pytest.raises(ConfigError, match="view: linear, of latents with 16 channels; these have 4"):
        ppap.sample(model, 2, goal, sampler="euler", steps=2)


def test_experts_that_look_through_a_decoder_are_not_loaded_without_it(model, guide, latents, tmp_path: Path) -> None:
    ppap.train_experts(guide, model, latents, view="decoder", **FEW).save(tmp_path)
    with pytest.raises(
        DataError, match=r"expert_1.*: looks at latents through their decoder; give the diffusion model"
    ):
        ppap.load_experts(tmp_path, guide)
    other = replace(model, autoencoder=Autoencoder(kl(1), 0.5, 0.1))
    with pytest.raises(DataError, match=r"expert_1.*: looks through the decoder \w+, not through \w+"):
        ppap.load_experts(tmp_path, guide, other)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_the_gradient_through_a_decoder_stays_finite_in_half_precision(precision: torch.dtype) -> None:
    """Its weights make activations of 1e5, beyond float16."""
    network = kl()
    with torch.no_grad():
        network.post_quant_conv.weight.mul_(3e5)
    autoencoder = Autoencoder(network)
    z = torch.randn(1, *SHAPE, requires_grad=True)
    with torch.autocast("cpu", precision):
        autoencoder.decode(z).square().sum().backward()
    assert z.grad is not None and torch.isfinite(z.grad).all() and z.grad.abs().max() > 0


def test_what_is_no_autoencoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="autoencoder: Conv2d has no method encode"):
        Autoencoder(nn.Conv2d(3, 3, 1))
