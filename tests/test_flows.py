"""Flows: schedules, Euler and Heun against diffusers, and guidance of every prediction on a mixture with known classes."""

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from torch import Tensor, nn

import ppap
from ppap.diffusion.denoiser import Clip, Denoiser
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.samplers import SAMPLERS, State, respaced
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError

pytestmark = pytest.mark.fast
T = 1000
MEANS, DEVIATION = (-1.5, 1.5), 0.4
SHAPE = (1, 1, 1)


class Exact(nn.Module):
    """A perfect network for a mixture of two normal distributions, of one number, asked in the frame of its prediction."""

    def __init__(self, schedule: Schedule, predicts: str, weights: tuple[float, float] = (0.5, 0.5)) -> None:
        super().__init__()
        self.schedule, self.predicts, self.weights = schedule, predicts, weights
        self.where = {round(float(time), 4): i for i, time in enumerate(schedule.times)}

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        abar = float(self.schedule.alphas_cumprod[self.where[round(float(t[0]), 4)]])
        signal, noise = abar**0.5, (1 - abar) ** 0.5
        x_t = x.double() * (signal + noise if self.predicts == "flow" else 1.0)
        x0 = posterior_mean(x_t, abar, self.weights)
        eps = (x_t - signal * x0) / noise
        return {"x0": x0, "eps": eps, "v": signal * eps - noise * x0, "flow": eps - x0}[self.predicts].float()


def away(x_t: Tensor, abar: float) -> tuple[Tensor, float]:
    variance = abar * DEVIATION**2 + 1 - abar
    return torch.stack([x_t - abar**0.5 * mean for mean in MEANS]), variance


def posterior_mean(x_t: Tensor, abar: float, weights: tuple[float, float]) -> Tensor:
    each, variance = away(x_t, abar)
    likely = torch.tensor(weights).double().log().view(-1, *[1] * x_t.ndim)
    shares = (likely - 0.5 * each.square() / variance).softmax(0)
    means = [m + abar**0.5 * DEVIATION**2 / variance * a for m, a in zip(MEANS, each, strict=True)]
    return sum(share * mean for share, mean in zip(shares, means, strict=True))


class Classes:
    """A goal: the second of the two classes, seen by the exact classifier of noisy images, or of clean ones."""

    def __init__(self, scale: float = 1.0, sees: str = "x_t") -> None:
        self.scale, self.sees, self.levels = scale, sees, []

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        self.levels.append(log_snr)
        abar = 1 / (1 + math.exp(-log_snr)) if self.sees == "x_t" else 1.0
        each, variance = away(images.double(), abar)
        return (-0.5 * each.square() / variance).sum((2, 3, 4)).T

    def check(self, log_snrs, betas, autoencoder=None, predicts="eps") -> None: ...

    def targets(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.ones(count, dtype=torch.int64)

    def objective_for(self, targets: Tensor):
        return lambda answers: answers.log_softmax(1).gather(1, targets[:, None])[:, 0]


def drawn(model: ppap.DiffusionModel, goals: object, sampler: str, steps: int, count: int = 2000) -> Tensor:
    *_, last = ppap.sampling_steps(model, count, goals, sampler=sampler, steps=steps)
    return last.x.flatten()


def mixture(name: str, predicts: str) -> ppap.DiffusionModel:
    schedule = Schedule.create(name, T)
    return ppap.DiffusionModel(Exact(schedule, predicts), SHAPE, schedule, "fixed_small", predicts, Clip(None))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler", "heun"])
@pytest.mark.parametrize(
    ("name", "predicts"),
    [("linear", "eps"), ("linear", "v"), ("linear", "x0"), ("flow", "flow"), ("flow", "v"), ("flow", "x0")],
)
def test_each_prediction_is_guided_to_the_posterior_of_the_class(name: str, predicts: str, sampler: str) -> None:
    """At scale 1 samples are those of the class; at the first step of a flow, which is pure noise, nothing is asked."""
    goal = Classes()
    samples = drawn(mixture(name, predicts), goal, sampler, 50)
    assert samples.isfinite().all()
    assert float((samples > 0).double().mean()) > 0.97
    assert float(samples.mean()) == pytest.approx(MEANS[1], abs=0.12)
    assert float(samples.std()) == pytest.approx(DEVIATION, abs=0.12)
    assert all(map(math.isfinite, goal.levels))


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun"])
@pytest.mark.parametrize(("name", "predicts"), [("linear", "eps"), ("flow", "flow")])
def test_a_classifier_of_the_denoised_estimate_guides_to_the_class(name: str, predicts: str, sampler: str) -> None:
    samples = drawn(mixture(name, predicts), Classes(sees="x0_hat"), sampler, 100)
    assert float((samples > 0).double().mean()) > 0.95
    assert float(samples.std()) == pytest.approx(DEVIATION, abs=0.2)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler", "heun"])
def test_without_guidance_a_flow_draws_its_data(sampler: str) -> None:
    samples = drawn(mixture("flow", "flow"), (), sampler, 100)
    assert float((samples > 0).double().mean()) == pytest.approx(0.5, abs=0.04)
    assert float(samples.square().mean()) == pytest.approx(MEANS[1] ** 2 + DEVIATION**2, rel=0.06)


@pytest.mark.parametrize(
    ("kind", "theirs"), [("euler", FlowMatchEulerDiscreteScheduler), ("heun", FlowMatchHeunDiscreteScheduler)]
)
@pytest.mark.parametrize("steps", [5, 20])
def test_euler_and_heun_take_the_steps_of_diffusers(kind: str, theirs: type, steps: int) -> None:
    schedule = Schedule.create("flow", T)
    network, sampler = Exact(schedule, "flow", (0.3, 0.7)), SAMPLERS.get(kind)
    denoiser = Denoiser(network, respaced(schedule, sampler, steps), "fixed_small", "flow", Clip(None))
    start = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    *_, last = sampler(denoiser, NoGuidance(), State(steps, start), lambda step: start)
    scheduler, x = theirs(num_train_timesteps=T), start
    levels = np.array([time / T for time in reversed(denoiser.schedule.times)])
    if kind == "euler":
        scheduler.set_timesteps(sigmas=levels)
    else:
        scheduler.set_timesteps(steps)
        sigmas = torch.tensor([*levels, 0.0], dtype=torch.float32)
        scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        scheduler.timesteps = T * scheduler.sigmas[:-1]
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t[None]), t, x).prev_sample
    torch.testing.assert_close(last.x, x, rtol=1e-4, atol=1e-4)


def test_a_flow_has_the_log_snr_of_its_sigma() -> None:
    schedule = Schedule.create("flow", T)
    for t in (0, 99, 499, 998):
        sigma = (t + 1) / T
        assert schedule.log_snr[t] == pytest.approx(2 * math.log((1 - sigma) / sigma), abs=1e-6)
    assert schedule.log_snr[-1] == -math.inf
    assert respaced(schedule, SAMPLERS.get("euler"), 25).times[-2:] == [960.0, 1000.0]


@pytest.mark.parametrize("sigmas", [[], [0.5, 0.4], [0.0, 0.5], [0.5, 1.1], [[0.5]]])
def test_sigmas_that_are_no_flow_are_refused(sigmas: list) -> None:
    with pytest.raises(ConfigError, match="a flow's sigmas are increasing numbers"):
        Schedule.flow(np.array(sigmas, dtype=float))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_a_flow_is_resumed_and_a_sample_does_not_depend_on_its_batch(sampler: str) -> None:
    model = mixture("flow", "flow")
    whole = ppap.sample(model, 5, Classes(), sampler=sampler, steps=6, decode=False)
    one = ppap.sample(model, 5, Classes(), sampler=sampler, steps=6, batch_size=2, decode=False)
    np.testing.assert_allclose(one, whole, rtol=1e-5, atol=1e-6)
