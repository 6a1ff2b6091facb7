"""Guidance within latent pipelines of diffusers: what guides see, and where the pictures that are drawn go."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ppap
from tests.tiny_pipelines import OTHERS, PIPELINES, drawn, tiny


def direction(images: Tensor) -> Tensor:
    """A pattern of the size of the pictures, of norm 1: none that a convolution makes by itself."""
    pattern = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(5))
    return (pattern / pattern.norm()).to(images)


def along(images: Tensor) -> Tensor:
    return (images * direction(images)).flatten(1).sum(1)


def unmoved(images: Tensor) -> Tensor:
    return 0.0 * images.flatten(1).sum(1)


CLASSES = [*PIPELINES, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in OTHERS)]


@pytest.mark.parametrize("name", CLASSES)
def test_without_a_pull_pictures_are_diffusers_own_to_the_bit(name: str) -> None:
    pipeline = tiny(name)
    plain = drawn(pipeline)
    for goal in (ppap.Goal(None, scale=0.0, objective=along), ppap.Goal(None, objective=unmoved)):
        with ppap.guided(pipeline, goal):
            assert torch.equal(drawn(pipeline), plain)


@pytest.mark.parametrize(
    ("name", "guidance"),
    [
        *((each, "off_the_shelf") for each in PIPELINES),
        *((each, "x0_estimate") for each in ("StableDiffusionPipeline", "FluxPipeline")),
        *(pytest.param(each, "x0_estimate", marks=pytest.mark.exhaustive) for each in (PIPELINES | OTHERS)),
        *(pytest.param(each, "off_the_shelf", marks=pytest.mark.exhaustive) for each in OTHERS),
    ],
)
def test_pictures_move_along_what_is_linear_in_them(name: str, guidance: str) -> None:
    """In the direction that is asked for, and the other way with the other sign; further with a larger scale."""
    pipeline, quantised = tiny(name), name.startswith("LDM")  # whose pictures go in steps, if they go at all
    scale, plain = 30.0 if quantised else 3.0, drawn(pipeline)

    def moved(scale: float) -> Tensor:
        with ppap.guided(pipeline, ppap.Goal(None, scale=scale, objective=along), guidance=guidance):
            return along(drawn(pipeline) - plain)

    back, there = moved(-scale), moved(scale)
    assert (back < 0).all() and (there > 0).all()
    assert quantised or (moved(3 * scale) > there).all()
    assert torch.equal(drawn(pipeline), plain)  # as before once the block is left


# -- what changes, exactly -------------------------------------------------------------------------


def recorded(pipeline: Any, goal: ppap.Goal, **call: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the pipeline gives to its scheduler's step, and what that is given once it is guided, at each step."""
    before, after, scheduler = [], [], pipeline.scheduler

    def noting(notes: list[Any], step: Any) -> Any:
        @functools.wraps(step)
        def noted(output: Tensor, timestep: Any, sample: Tensor, *rest: Any, **more: Any) -> Any:
            notes.append({"output": output, "timestep": timestep, "sample": sample})
            return step(output, timestep, sample, *rest, **more)

        return noted

    scheduler.step = noting(after, scheduler.step)
    with ppap.guided(pipeline, goal):
        scheduler.step = noting(before, scheduler.step)
        drawn(pipeline, **call)
    vars(scheduler).pop("step")
    return list(zip(before, after, strict=True))


def gradient(decode: Any, z: Tensor, scale: float) -> Tensor:
    at = z.clone().requires_grad_()
    return torch.autograd.grad(scale * along(decode(at)).sum(), at)[0]


def test_noise_that_a_unet_predicts_moves_against_the_gradient_of_the_decoder() -> None:
    pipeline = tiny("StableDiffusionPipeline")
    for before, after in recorded(pipeline, ppap.Goal(None, scale=4.0, objective=along)):
        abar = pipeline.scheduler.alphas_cumprod[int(before["timestep"])]
        g = gradient(lambda z: pipeline.vae.decode(z / 0.18215).sample, before["sample"], 4.0)
        torch.testing.assert_close(after["output"] - before["output"], -((1 - abar) ** 0.5) * g, rtol=1e-3, atol=1e-5)


def test_the_velocity_of_a_flow_moves_by_the_formula_in_its_own_frame() -> None:
    """v <- v - sigma / (1 - sigma) g, where g is the gradient for z = (1 - sigma) x0 + sigma eps, once it is in frame."""
    pipeline = tiny("StableDiffusion3Pipeline")
    told = recorded(pipeline, ppap.Goal(None, scale=4.0, objective=along))
    for i, (before, after) in enumerate(told):
        sigma = float(pipeline.scheduler.sigmas[i])
        norm = ((1 - sigma) ** 2 + sigma**2) ** 0.5  # guides see z / norm
        g = gradient(lambda z, n=norm: pipeline.vae.decode(z / n / 1.5305 + 0.0609).sample, before["sample"], 4.0)
        expected = torch.zeros_like(g) if i == 0 else -sigma / (1 - sigma) * g
        torch.testing.assert_close(after["output"] - before["output"], expected, rtol=1e-3, atol=1e-5)


def test_packed_latents_are_seen_as_pictures_and_their_velocity_moves_packed() -> None:
    pipeline = tiny("FluxPipeline")
    told = recorded(pipeline, ppap.Goal(None, scale=4.0, objective=along))
    for i, (before, after) in enumerate(told):
        sigma = float(pipeline.scheduler.sigmas[i])
        norm = ((1 - sigma) ** 2 + sigma**2) ** 0.5
        z = pipeline._unpack_latents(before["sample"], 16, 32, 2)
        assert z.shape == (2, 4, 8, 16)
        g = gradient(lambda z, n=norm: pipeline.vae.decode(z / n / 0.3611 + 0.1159).sample, z, 4.0)
        expected = torch.zeros_like(g) if i == 0 else -sigma / (1 - sigma) * g
        expected = pipeline._pack_latents(expected, 2, 4, 8, 16)
        torch.testing.assert_close(after["output"] - before["output"], expected, rtol=1e-3, atol=1e-5)


def judge(channels: int = 3) -> ppap.Guide:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 49, 4))
    return ppap.wrap_guide(network, outputs=4, image_size=16)


def believed(guide: ppap.Guide, images: Tensor, targets: Tensor) -> Tensor:
    """log p(target | image) of images in [0, 1]."""
    return guide(2 * images - 1).log_softmax(1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("name", ["DiTPipeline", "FluxPipeline", "StableDiffusionXLPipeline"])
def test_each_picture_has_a_target_of_its_own(name: str) -> None:
    """DiT gives its scheduler each picture twice, and the targets are as many as the pictures."""
    pipeline, guide, targets = tiny(name), judge(), torch.tensor([1, 3])
    plain = drawn(pipeline)
    with ppap.guided(pipeline, ppap.Goal(guide, targets, 30.0)):
        guided = drawn(pipeline)
    assert (believed(guide, guided, targets) > believed(guide, plain, targets)).all()


def test_a_map_that_samples_are_to_show_has_the_size_of_the_pictures(tmp_path: Path) -> None:
    """Not that of the latents, which are half as high and wide."""
    pipeline, seen = tiny("StableDiffusionPipeline"), []
    network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Flatten(1, 2))
    guide = ppap.wrap_guide(network, task="depth", outputs=1, image_size=16)
    np.save(tmp_path / "depth.npy", np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    network.register_forward_hook(lambda module, args, out: seen.append(args[0].shape))
    with ppap.guided(pipeline, ppap.Goal(guide, tmp_path / "depth.npy", 1.0)):
        drawn(pipeline)
    assert {tuple(shape) for shape in seen} == {(2, 3, 16, 16)}


# -- experts that look at latents ------------------------------------------------------------------


@pytest.mark.parametrize(("view", "sees"), [("linear", "x_t"), ("linear", "x0_hat"), ("decoder", "x0_hat")])
def test_experts_of_latents_guide_the_pipeline_whose_latents_they_know(view: str, sees: str) -> None:
    pipeline = tiny("LDMPipeline")
    model = ppap.load_pipeline(pipeline)
    latents = ppap.sample(model, 8, steps=2, decode=False)
    guide = judge()
    bank = ppap.train_experts(
        guide, model, latents, experts=2, sees=sees, view=view, training={"steps": 4, "batch_size": 4},
        adapter=ppap.AdapterConfig(layers=("0", "3"), rank=1),
    )  # fmt: skip
    for before, after in recorded(pipeline, ppap.Goal(bank, 1, 30.0)):
        assert (after["output"] - before["output"]).flatten(1).abs().amax(1).min() > 1e-6
    pipeline.vqvae.register_to_config(scaling_factor=0.5)
    with ppap.guided(pipeline, ppap.Goal(bank, 1, 30.0)), pytest.raises(ppap.PPAPError, match="scale"):
        drawn(pipeline)


# -- what cannot be guided -------------------------------------------------------------------------


class AutoencoderOfStrangers(nn.Module):
    """Looks like an autoencoder by its name alone."""


class UNet3DConditionModel(nn.Module):
    """Looks like one of video."""


SCHEDULER = diffusers.DDIMScheduler()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"vae": AutoencoderOfStrangers()}, "vae: AutoencoderOfStrangers is no autoencoder whose latents are known"),
        ({"first_stage": AutoencoderOfStrangers()}, "first_stage: AutoencoderOfStrangers is no autoencoder"),
        ({"unet": UNet3DConditionModel()}, "unet: UNet3DConditionModel is for video"),
        ({"config": {"vae": (None, None)}}, "vae: None; guides need the autoencoder"),
    ],
)
def test_latents_that_are_not_known_and_video_are_refused_by_name(parts: dict[str, Any], message: str) -> None:
    pipeline = SimpleNamespace(scheduler=SCHEDULER, **parts)
    with pytest.raises(ppap.PPAPError, match=message), ppap.guided(pipeline, ppap.Goal(None, objective=along)):
        pass


def test_a_loop_that_is_known_to_call_no_step_is_refused() -> None:
    pipeline = type("StableDiffusionParadigmsPipeline", (), {"scheduler": SCHEDULER})()
    message = "StableDiffusionParadigmsPipeline: does not call the step"
    with pytest.raises(ppap.PPAPError, match=message), ppap.guided(pipeline, ppap.Goal(None, objective=along)):
        pass


@pytest.mark.parametrize("shape", [(1, 4, 2, 8, 8), (1, 16, 16)])
def test_samples_of_video_and_packed_ones_of_unknown_size_are_refused(shape: tuple[int, ...]) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    pipeline = SimpleNamespace(scheduler=scheduler)
    with (
        ppap.guided(pipeline, ppap.Goal(None, objective=along)),
        pytest.raises(ppap.PPAPError, match=r"samples are \(1, .*; images \(B, C, H, W\) were expected"),
    ):
        scheduler.step(torch.zeros(shape), scheduler.timesteps[0], torch.zeros(shape))
