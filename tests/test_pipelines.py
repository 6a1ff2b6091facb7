"""Guidance within diffusers' pipelines: an exact mixture, its exact classifier, and the schedulers of diffusers."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    IFPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

import ppap

MEANS = torch.tensor([-0.6, 0.6])
DEVIATION = 0.2
ABAR = DDPMScheduler().alphas_cumprod
SHAPE = (1, 1, 1)


def log_densities(x: Tensor, abar: Tensor) -> Tensor:
    """log p(x_t | class) of both classes, (B, 2), which are normal with MEANS, noised to a signal power of abar."""
    variance = abar * DEVIATION**2 + 1 - abar
    distance = x.flatten(1) - abar.sqrt() * MEANS
    return -0.5 * distance.square() / variance


class Bayes(nn.Module):
    """A bank of experts as it should be: p(class | x_t), exact at every timestep."""

    own_task = ppap.wrap_guide(nn.Identity(), outputs=2, image_size=1).own_task

    def at(self, images: Tensor, timestep: int) -> Tensor:
        return log_densities(images, ABAR[timestep])


def exact(x: Tensor, t: Tensor, predicts: str) -> Tensor:
    """What a perfect network predicts of the mixture of both classes: eps, x0 or v."""
    abar = ABAR[int(t.flatten()[0])] if t.dtype == torch.int64 else between(float(t.flatten()[0]))
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (score,) = torch.autograd.grad(log_densities(at, abar).logsumexp(1).sum(), at)
    eps = -((1 - abar) ** 0.5) * score
    x0 = (x - (1 - abar) ** 0.5 * eps) / abar**0.5
    v = abar**0.5 * eps - (1 - abar) ** 0.5 * x0
    return {"epsilon": eps, "sample": x0, "v_prediction": v}[predicts]


def between(t: float) -> Tensor:
    """abar between two timesteps, as schedulers of sigmas have it."""
    low = min(int(t), len(ABAR) - 2)
    low_sigma, high_sigma = (((1 - a) / a) ** 0.5 for a in ABAR[low : low + 2])
    sigma = torch.lerp(low_sigma, high_sigma, t - low)
    return 1 / (1 + sigma**2)


def drawn(scheduler, predicts: str, goals: list[ppap.Goal], count: int = 400) -> Tensor:
    """Samples by a loop as diffusers' pipelines have it."""
    generator = torch.Generator().manual_seed(0)
    pipeline = SimpleNamespace(scheduler=scheduler)
    scheduler.set_timesteps(100)
    x = torch.randn((count, *SHAPE), generator=generator) * scheduler.init_noise_sigma
    noisy = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}

    def loop(x: Tensor) -> Tensor:
        for t in scheduler.timesteps:
            output = exact(scheduler.scale_model_input(x, t), t[None], predicts)
            x = scheduler.step(output, t, x, **noisy).prev_sample
        return x

    if not goals:
        return loop(x)
    with ppap.guided(pipeline, goals):
        return loop(x)


SCHEDULERS = {
    "DDIM": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}),
    "DDPM": (DDPMScheduler, {"clip_sample": False}),
    "DPM-Solver++": (DPMSolverMultistepScheduler, {}),
    "DPM-Solver++ Karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "UniPC": (UniPCMultistepScheduler, {}),
    "Heun": (HeunDiscreteScheduler, {}),
    "Euler": (EulerDiscreteScheduler, {}),
}


def built(name: str, predicts: str):
    kind, options = SCHEDULERS[name]
    betas = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    return kind(prediction_type=predicts, **betas, **options)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "predicts"),
    [
        *((name, "epsilon") for name in SCHEDULERS),
        *((name, predicts) for name in ("DDIM", "Heun") for predicts in ("sample", "v_prediction")),
    ],
)
def test_the_gradient_of_an_exact_classifier_turns_the_mixture_into_the_class(name: str, predicts: str) -> None:
    """Bayes' rule: the score of p(x_t) and that of p(y | x_t) make that of p(x_t | y)."""
    plain = drawn(built(name, predicts), predicts, [])
    assert 0.4 < (plain > 0).float().mean() < 0.6
    guided = drawn(built(name, predicts), predicts, [ppap.Goal(Bayes(), 1, 1.0)])
    assert (guided > 0).float().mean() > 0.98
    assert abs(guided.mean() - 0.6) < 0.04 and abs(guided.std() - DEVIATION) < 0.04


@pytest.mark.parametrize("name", SCHEDULERS)
def test_without_a_pull_samples_are_diffusers_own(name: str) -> None:
    plain = drawn(built(name, "epsilon"), "epsilon", [], 20)
    with_none = drawn(built(name, "epsilon"), "epsilon", [ppap.Goal(Bayes(), 1, 0.0)], 20)
    torch.testing.assert_close(with_none, plain, rtol=0, atol=0)


def classifier(channels: int = 3) -> ppap.Guide:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(4))
    network(torch.zeros(1, channels, 16, 16))
    return ppap.wrap_guide(network, outputs=4, image_size=16)


def believed(guide: ppap.Guide, images: Tensor, target: int) -> Tensor:
    """log p(target | image) of images in [0, 1]."""
    return guide(2 * images - 1).log_softmax(1)[:, target].mean()


def test_an_unconditional_pipeline_draws_what_the_guide_is_to_see() -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipeline = DDPMPipeline(unet, DPMSolverMultistepScheduler())
    pipeline.set_progress_bar_config(disable=True)
    guide = classifier()

    def images() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        found = pipeline(4, generator, num_inference_steps=10, output_type="np").images
        return torch.tensor(found).permute(0, 3, 1, 2)

    plain = images()
    with ppap.guided(pipeline, [ppap.Goal(guide, 2, 20.0)]):
        guided = images()
    torch.testing.assert_close(images(), plain, rtol=0, atol=0)  # as before once the block is left
    assert believed(guide, guided, 2) > believed(guide, plain, 2) + 0.05


@pytest.fixture(scope="module")
def deepfloyd() -> IFPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, layers_per_block=1, block_out_channels=[32, 64], in_channels=3,
        out_channels=6, cross_attention_dim=32, encoder_hid_dim=32, attention_head_dim=8,
        down_block_types=["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        addition_embed_type="text", addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift", act_fn="gelu",
    )  # fmt: skip
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", thresholding=True, variance_type="learned_range")
    pipeline = IFPipeline(None, None, unet, scheduler, None, None, None, False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("fast", [False, True])
def test_a_text_to_image_pipeline_of_pixels_is_guided_beside_its_prompt(deepfloyd: IFPipeline, fast: bool) -> None:
    """DeepFloyd IF's class: its classifier-free guidance for the prompt, ours for the target."""
    guide = classifier()
    if fast:
        about = dict(deepfloyd.scheduler.config) | {"variance_type": None}
        deepfloyd.scheduler = HeunDiscreteScheduler.from_config(
            {k: v for k, v in about.items() if not k.startswith("_")}
        )
        deepfloyd.scheduler.register_to_config(variance_type=None)
    prompts = torch.randn((2, 5, 32), generator=torch.Generator().manual_seed(3)).chunk(2)

    def images() -> Tensor:
        return deepfloyd(
            prompt_embeds=prompts[0], negative_prompt_embeds=prompts[1], guidance_scale=3.0,
            num_images_per_prompt=2, num_inference_steps=8, output_type="pt", height=16, width=16,
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip

    plain = images()
    with ppap.guided(deepfloyd, [ppap.Goal(guide, 1, 20.0)]):
        guided = images()
    torch.testing.assert_close(images(), plain, rtol=0, atol=0)
    assert (guide(guided).log_softmax(1) - guide(plain).log_softmax(1))[:, 1].mean() > 0.05


def test_two_goals_pull_together() -> None:
    scheduler = built("DDIM", "epsilon")
    once = drawn(scheduler, "epsilon", [ppap.Goal(Bayes(), 1, 0.5)] * 2, 20)
    double = drawn(built("DDIM", "epsilon"), "epsilon", [ppap.Goal(Bayes(), 1, 1.0)], 20)
    torch.testing.assert_close(once, double, rtol=1e-4, atol=1e-4)


def test_a_scheduler_without_noise_levels_is_refused() -> None:
    flow = SimpleNamespace(scheduler=FlowMatchEulerDiscreteScheduler())
    with (
        pytest.raises(ppap.PPAPError, match=r"FlowMatch.*has no alphas_cumprod"),
        ppap.guided(flow, [ppap.Goal(Bayes(), 1)]),
    ):
        pass
    usual = SimpleNamespace(scheduler=DDIMScheduler())
    with pytest.raises(ppap.PPAPError, match="one goal at least"), ppap.guided(usual, []):
        pass
