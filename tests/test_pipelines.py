"""Guidance within diffusers' pipelines: an exact mixture, its exact classifier, and the schedulers of diffusers."""

import inspect
import json
import math
import sys
from contextlib import nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DPMSolverMultistepScheduler, HeunDiscreteScheduler, UNet2DModel
from torch import Tensor, nn

import ppap
from ppap.diffusion.guidance import NoisyInputGuidance
from tests.conftest import ROOT
from tests.tiny_pipelines import drawn as pictures
from tests.tiny_pipelines import tiny

MEANS = torch.tensor([-0.6, 0.6], dtype=torch.float64)
DEVIATION = 0.2
SHAPE = (1, 1, 1)
PUBLISHED = json.loads((ROOT / "tests/golden/pipelines.json").read_text())
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def log_densities(x: Tensor, abar: float) -> Tensor:
    """log p(x_t | class) of both classes, (B, 2), which are normal with MEANS, noised to a signal power of abar."""
    variance = abar * DEVIATION**2 + 1 - abar
    return -0.5 * (x.flatten(1).double() - abar**0.5 * MEANS).square() / variance


class Bayes(nn.Module):
    """A bank of experts as it should be: p(class | x_t), exact at every level of noise."""

    own_task = ppap.wrap_guide(nn.Identity(), outputs=2, image_size=1).own_task

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        return log_densities(images, float(torch.tensor(log_snr, dtype=torch.float64).sigmoid()))


def exact(x: Tensor, abar: float, predicts: str, classes: slice) -> Tensor:
    """What a perfect network predicts of the mixture of these classes: eps, x0 or v."""
    with torch.enable_grad():
        at = x.double().requires_grad_()
        (score,) = torch.autograd.grad(log_densities(at, abar)[:, classes].logsumexp(1).sum(), at)
    eps = -((1 - abar) ** 0.5) * score
    x0 = MEANS[classes].mean().expand_as(x) if abar == 0 else (x - (1 - abar) ** 0.5 * eps) / abar**0.5
    v = abar**0.5 * eps - (1 - abar) ** 0.5 * x0
    return {"epsilon": eps, "sample": x0, "v_prediction": v}[predicts].float()


def of_flow(scheduler: Any) -> bool:
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


def flowing(z: Tensor, sigma: float, predicts: str, classes: slice) -> Tensor:
    """What a perfect network of a flow predicts of z = (1 - sigma) x0 + sigma eps, by the density of z itself."""
    variance = (1 - sigma) ** 2 * DEVIATION**2 + sigma**2
    away = z.flatten(1).double() - (1 - sigma) * MEANS[classes]
    shares = (-0.5 * away.square() / variance).softmax(1)
    x0 = (shares * (MEANS[classes] + (1 - sigma) * DEVIATION**2 / variance * away)).sum(1).reshape(z.shape)
    eps = (z - (1 - sigma) * x0) / sigma
    return {"epsilon": eps, "sample": x0, "flow_prediction": eps - x0}[predicts].float()


def drawn(
    scheduler: Any, goals: Any = (), classes: slice = slice(None), count: int = 200, steps: int = 25, **how: Any
) -> Tensor:
    """Samples by a loop as diffusers' pipelines have it, of a perfect network of these classes.

    Of a flow above sigma 0.992 it knows no class, as guidance does not.
    """
    generator = torch.Generator().manual_seed(0)
    dynamic = {"mu": 0.8} if scheduler.config.get("use_dynamic_shifting") else {}
    with ppap.guided(SimpleNamespace(scheduler=scheduler), goals, **how) if goals else nullcontext():
        scheduler.set_timesteps(steps, **dynamic)
        x = torch.randn((count, *SHAPE), generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
        noisy = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
        for i, t in enumerate(scheduler.timesteps):
            if of_flow(scheduler):
                sigma, predicts = float(scheduler.sigmas[i]), scheduler.config.get("prediction_type", "flow_prediction")
                predicted = flowing(x, sigma, predicts, classes if sigma < 0.9922 else slice(None))
                x = scheduler.step(predicted, t, x, **noisy).prev_sample
                continue
            seen = scheduler.scale_model_input(x, t)
            if not hasattr(scheduler, "sigmas"):
                abar = float(scheduler.alphas_cumprod[int(t)])
            elif torch.equal(seen, x):
                abar = 1 / (1 + float(scheduler.sigmas[i]) ** 2)
            else:  # x was divided by sqrt(1 + sigma^2), whichever sigma this was
                abar = float(seen.double().square().sum() / x.double().square().sum())
            predicted = exact(seen, abar, scheduler.config.get("prediction_type", "epsilon"), classes)
            x = scheduler.step(predicted, t, x, **noisy).prev_sample
    return x


def built(name: str, **options: Any) -> Any:
    """A scheduler of diffusers that does not clip, with those of the options that it knows."""
    kind = getattr(diffusers, f"{name}Scheduler")
    asked = {**BETAS, "clip_sample": False, "set_alpha_to_one": True, **options}
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in asked.items() if key in known})


@pytest.fixture
def brownian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent noise in the place of torchsde's Brownian motion, which DPMSolverSDE asks for."""

    class Increments:
        def __init__(self, t0, t1, size, entropy, **_: object) -> None:
            self.size, self.generator = size, torch.Generator().manual_seed(0)

        def __call__(self, start: float, end: float) -> Tensor:
            return torch.randn(self.size, generator=self.generator) * abs(end - start) ** 0.5

    fake = ModuleType("torchsde")
    fake.BrownianInterval = Increments  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchsde", fake)
    from diffusers.schedulers import scheduling_dpmsolver_sde as module

    monkeypatch.setattr(diffusers, "DPMSolverSDEScheduler", module.DPMSolverSDEScheduler)


X0 = ("DDIM", "DDPM", "CogVideoXDDIM", "LCM", "TCD", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep",
      "UniPCMultistep", "SASolver", "EulerDiscrete", "HeunDiscrete", "LMSDiscrete")  # fmt: skip
NO_X0 = ("EulerAncestralDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE", "PNDM")
CASES = [
    *((name, {}) for name in (*X0, *NO_X0)),
    *((name, {"prediction_type": "sample"}) for name in X0),
    *((name, {"prediction_type": "v_prediction"}) for name in ("DDPM", "UniPCMultistep", "HeunDiscrete", *NO_X0)),
    *((name, {"use_karras_sigmas": True}) for name in ("DPMSolverMultistep", "HeunDiscrete", *NO_X0[1:4])),
    ("EulerDiscrete", {"timestep_type": "continuous", "prediction_type": "v_prediction", "use_karras_sigmas": True}),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
]


@pytest.mark.fast
@pytest.mark.usefixtures("brownian")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_gradient_of_an_exact_classifier_turns_the_mixture_into_the_class(name: str, options: dict) -> None:
    """Bayes' rule: the score of p(x_t) and that of p(y | x_t) make that of p(x_t | y), step by step."""
    guided = drawn(built(name, **options), ppap.Goal(Bayes(), 1))
    assert (guided > 0).float().mean() > 0.98
    assert abs(guided.mean() - 0.6) < 0.05
    torch.testing.assert_close(guided, drawn(built(name, **options), classes=slice(1, 2)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["DDIM", "DDPM", "DPMSolverMultistep", "UniPCMultistep", "HeunDiscrete", "LMSDiscrete"]
)
def test_with_many_steps_the_spread_of_the_class_comes_out_too(name: str) -> None:
    guided = drawn(built(name), ppap.Goal(Bayes(), 1), count=400, steps=100)
    assert abs(guided.std() - DEVIATION) < 0.03


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("clips", [{}, {"clip_sample": True}, {"thresholding": True}])
def test_a_strong_pull_does_not_lose_the_class_to_clipping(clips: dict, predicts: str) -> None:
    """DDIM keeps eps as predicted unless it is told otherwise, though it clips x0."""
    for scale in (2.0, 3.0, 5.0, 8.0):
        guided = drawn(built("DDIM", prediction_type=predicts, **clips), ppap.Goal(Bayes(), 1, scale))
        assert (guided > 0).float().mean() == 1.0


@pytest.mark.parametrize("name", ["DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep"])
def test_where_nothing_of_the_image_is_left_there_is_no_guidance(name: str) -> None:
    """With zero terminal SNR abar is 0 at first, or 2^-24 as solvers have it."""
    options = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    asked = []

    class Watched(Bayes):
        def at(self, images: Tensor, log_snr: float) -> Tensor:
            asked.append(log_snr)
            return super().at(images, log_snr)

    guided = drawn(built(name, **options), ppap.Goal(Watched(), 1))
    assert (guided > 0).float().mean() == 1.0 and abs(guided.mean() - 0.6) < 0.05
    assert len(asked) == 24 and min(asked) > -12


def of_published(about: dict[str, Any]) -> Any:
    """The scheduler of a configuration; of one whose class diffusers has not, something that is named like it."""
    name, about = about["_class_name"], dict(about)
    if "lambda_min_clipped" in about:  # which the copy has as a word
        about["lambda_min_clipped"] = float(about["lambda_min_clipped"])
    kind = getattr(diffusers, name, None)
    if kind is None or getattr(kind, "_backends", None):
        return type(name, (), {"config": about})()
    return kind.from_config(about)


@pytest.mark.usefixtures("brownian")
def test_published_configurations_are_guided_right_or_refused_in_one_line() -> None:
    refused = {}
    for number, published in enumerate(PUBLISHED):
        about = published["scheduler"]
        try:
            guided = drawn(of_published(about), ppap.Goal(Bayes(), 1))
        except ppap.PPAPError as error:
            message = str(error)
            assert message.startswith(about["_class_name"]) and "\n" not in message
            refused[number] = message
            continue
        assert (guided > 0).float().mean() > 0.98 and abs(guided.mean() - 0.6) < 0.05, about
        assert 0.1 < guided.std() < 0.27, about
        wanted = drawn(of_published(about), classes=slice(1, 2))
        torch.testing.assert_close(guided, wanted, rtol=0, atol=2e-3 if about.get("rescale_betas_zero_snr") else 1e-5)
    assert len(PUBLISHED) - len(refused) == 49
    assert "prediction_type: sample" in refused.pop(51)
    assert all("cannot be guided; CogVideoXDDIM, DDIM, " in said for said in refused.values())


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


@pytest.mark.parametrize("fast", [False, True])
def test_a_text_to_image_pipeline_of_pixels_is_guided_beside_its_prompt(fast: bool) -> None:
    """DeepFloyd IF's class: its classifier-free guidance for the prompt, ours for the target."""
    deepfloyd, guide = tiny("IFPipeline"), classifier()
    if fast:
        about = dict(deepfloyd.scheduler.config) | {"variance_type": None}
        deepfloyd.scheduler = HeunDiscreteScheduler.from_config(
            {k: v for k, v in about.items() if not k.startswith("_")}
        )
        deepfloyd.scheduler.register_to_config(variance_type=None)

    def images() -> Tensor:
        return pictures(deepfloyd, steps=8)

    plain = images()
    with ppap.guided(deepfloyd, [ppap.Goal(guide, 1, 20.0)]):
        guided = images()
    torch.testing.assert_close(images(), plain, rtol=0, atol=0)
    assert believed(guide, guided, 1) > believed(guide, plain, 1) + 0.05


def test_several_goals_and_nested_blocks_pull_together() -> None:
    half, scheduler = ppap.Goal(Bayes(), 1, 0.5), built("DDIM", clip_sample=True)
    whole = drawn(scheduler, ppap.Goal(Bayes(), 1, 1.0), count=20)
    pipeline, plain = SimpleNamespace(scheduler=scheduler), drawn(scheduler, count=20)
    torch.testing.assert_close(drawn(scheduler, [half, half], count=20), whole, rtol=1e-4, atol=1e-4)
    with ppap.guided(pipeline, half):
        torch.testing.assert_close(drawn(scheduler, half, count=20), whole, rtol=1e-4, atol=1e-4)
        with pytest.raises(KeyError), ppap.guided(pipeline, half):
            raise KeyError
        once = drawn(scheduler, count=20)
        assert (once - whole).abs().max() > 0.01 and (once - plain).abs().max() > 0.01
    assert torch.equal(drawn(scheduler, count=20), plain)


class Late(NoisyInputGuidance):
    """Guidance of one's own: none where there is more noise than signal by so much."""

    def __init__(self, guide, objective, scale, least: float) -> None:
        super().__init__(guide, objective, scale)
        self.least = least

    def __call__(self, denoiser, x, step):
        guided = super().__call__(denoiser, x, step)
        return guided if denoiser.schedule.log_snr[step] > self.least else (guided[0], None)


@pytest.mark.parametrize("name", ["DDIM", "HeunDiscrete"])
def test_guidance_of_ones_own_guides_where_it_is_to(name: str) -> None:
    def own(least: float) -> Tensor:
        scheduler = built(name)
        with ppap.guided(SimpleNamespace(scheduler=scheduler), goal, guidance=partial(Late, least=least)):
            return drawn(scheduler, count=20)

    goal = ppap.Goal(Bayes(), 1)
    plain, guided = drawn(built(name), count=20), drawn(built(name), goal, count=20)
    assert torch.equal(own(-math.inf), guided) and torch.equal(own(math.inf), plain)
    assert (own(0.0) - plain).abs().max() > 0.01 and (own(0.0) - guided).abs().max() > 0.01


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        ("x0_gradient", "guidance 'X0Gradient': only ppap.sample draws with it"),
        ("none", "guidance 'NoGuidance': only ppap.sample"),
        (
            lambda *about: lambda denoiser, x, step: (denoiser(x / 2, step), None),
            "asks the denoiser about another image",
        ),
        (
            lambda *about: lambda denoiser, x, step: (denoiser(x, step)._replace(x0=x), None),
            "changes what the denoiser",
        ),
    ],
)
def test_guidance_that_a_pipeline_cannot_have_is_refused(guidance: Any, message: str) -> None:
    scheduler = built("DDIM")
    with (
        pytest.raises(ppap.PPAPError, match=message),
        ppap.guided(SimpleNamespace(scheduler=scheduler), ppap.Goal(Bayes(), 1), guidance=guidance),
    ):
        drawn(scheduler, count=2)


class Stepless(DDIMScheduler):
    """A scheduler of one's own, which is one of diffusers."""


def test_a_loop_that_never_steps_is_not_silently_unguided(caplog: pytest.LogCaptureFixture) -> None:
    with ppap.guided(SimpleNamespace(scheduler=Stepless()), ppap.Goal(Bayes(), 1)):
        pass
    assert "SimpleNamespace: nothing called the step of its scheduler" in caplog.text


def of_classes() -> UNet2DModel:
    return UNet2DModel(
        sample_size=8, block_out_channels=(4,), layers_per_block=1, norm_num_groups=4, num_class_embeds=3,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ({}, "pipeline: a SimpleNamespace; one with a scheduler"),
        ({"scheduler": diffusers.CogVideoXDPMScheduler()}, "CogVideoXDPMScheduler: cannot be guided; .*DDIM"),
        ({"scheduler": diffusers.SASolverScheduler(prediction_type="flow_prediction")}, "prediction_type: flow_prediction"),
        ({"scheduler": diffusers.KDPM2DiscreteScheduler(prediction_type="sample")}, "prediction_type: sample"),
        ({"scheduler": DDIMScheduler(), "unet": of_classes()}, "its U-Net asks for a class"),
    ],
)  # fmt: skip
def test_what_cannot_be_guided_is_refused_by_name(pipeline: dict[str, Any], message: str) -> None:
    with pytest.raises(ppap.PPAPError, match=message), ppap.guided(SimpleNamespace(**pipeline), ppap.Goal(Bayes(), 1)):
        pass


def test_goals_are_needed_and_images() -> None:
    pipeline = SimpleNamespace(scheduler=built("DDIM"))
    for goals in ([], [Bayes()], 3):
        with pytest.raises(ppap.PPAPError, match="goals: "), ppap.guided(pipeline, goals):
            pass
    pipeline.scheduler.set_timesteps(5)
    with (
        pytest.raises(ppap.PPAPError, match=r"samples are \(2, 8\); images"),
        ppap.guided(pipeline, ppap.Goal(Bayes(), 1)),
    ):
        pipeline.scheduler.step(torch.zeros(2, 8), 800, torch.zeros(2, 8))
