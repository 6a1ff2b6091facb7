"""The samplers against diffusers' schedulers and an exact Bayes classifier, and their invariances."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn

import ppap
from ppap.diffusion import samplers
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import NoGuidance, X0Gradient
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.samplers import SAMPLERS, State, respaced
from ppap.diffusion.sampling import sample
from ppap.diffusion.schedules import Schedule
from ppap.guides.tasks.classification import class_log_probability
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.errors import ConfigError, NumericalError
from ppap.utils.seeds import StepNoise, balanced_classes, initial_noise

CPU = torch.device("cpu")
SEEDS = [(0, i) for i in range(6)]
pytestmark = pytest.mark.fast
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def network() -> ADM:
    torch.manual_seed(0)
    arch = ADMArchitecture(
        in_channels=1, model_channels=8, channel_mult=(1, 1), num_res_blocks=1,
        attention_factors=(2,), head_channels=8, norm_groups=4, learn_sigma=False,
    )  # fmt: skip
    network = ADM(arch)
    for parameter in network.parameters():  # as drawn, ADM's last layers are zero
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def classifier(x: torch.Tensor, timestep: int) -> torch.Tensor:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    return x.flatten(1) @ weight.T


def spaced(kind: str, steps: int = 10, name: str = "cosine") -> Schedule:
    return respaced(Schedule.create(name, 1000), SAMPLERS.get(kind), steps)


def model(network) -> DiffusionModel:
    return DiffusionModel(Calling(network), SHAPE, Schedule.create("cosine", 1000))


class Calling(nn.Module):
    """A module out of a function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.function(x, t)


class Target:
    """A goal: classes (N,) that a guide is to see."""

    def __init__(self, guide, classes: torch.Tensor, scale: float = 2.0) -> None:
        self.at, self.classes, self.scale = guide, classes, scale

    def targets(self, count: int, shape: tuple[int, ...]) -> torch.Tensor:
        return self.classes

    def check(self, log_snrs, betas, autoencoder=None, predicts="eps") -> None: ...

    def objective_for(self, targets: torch.Tensor):
        return class_log_probability(targets)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_ddim_is_diffusers_ddim(network: ADM, name: str, eta: float) -> None:
    schedule = spaced("ddim", name=name)
    theirs = DDIMScheduler(trained_betas=Schedule.create(name, 1000).betas, clip_sample=True, set_alpha_to_one=True)
    theirs.set_timesteps(10)
    assert theirs.timesteps.tolist() == list(schedule.timesteps)[::-1]
    noise = StepNoise(SEEDS, SHAPE, CPU)
    x = initial_noise(SEEDS, SHAPE)
    denoiser = Denoiser(network, schedule, "fixed_small")
    *_, mine = samplers.ddim(denoiser, NoGuidance(), State(10, x), noise, eta)
    for step, t in zip(reversed(range(10)), theirs.timesteps, strict=True):
        eps = network(x, t.repeat(len(x)))
        given = noise(step) if step else torch.zeros_like(x)
        x = theirs.step(eps, t, x, eta=eta, use_clipped_model_output=True, variance_noise=given).prev_sample
    torch.testing.assert_close(mine.x, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_is_diffusers_ddpm(network: ADM, variance: str, monkeypatch) -> None:
    schedule = Schedule.create("linear", 100)
    theirs = DDPMScheduler(100, trained_betas=schedule.betas, variance_type=variance, clip_sample=True)
    noise = StepNoise(SEEDS, SHAPE, CPU)
    x = initial_noise(SEEDS, SHAPE)
    denoiser = Denoiser(network, schedule, variance)
    *_, mine = samplers.ddpm(denoiser, NoGuidance(), State(100, x), noise, 1.0)
    for step, t in zip(reversed(range(100)), theirs.timesteps, strict=True):
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, step=step, **k: noise(step))
        x = theirs.step(network(x, t.repeat(len(x))), t, x).prev_sample
    torch.testing.assert_close(mine.x, x, rtol=1e-4, atol=1e-4)


def test_x0_gradient_is_the_derivative_of_the_score_of_the_estimate(network: ADM) -> None:
    denoiser = Denoiser(network, spaced("ddim"), "fixed_small")
    y = torch.tensor([2])
    guidance = X0Gradient(classifier, class_log_probability(y), 3.0)
    x = 0.1 * initial_noise(SEEDS[:1], SHAPE)
    _, gradient = guidance(denoiser, x, 2)
    direction = initial_noise(SEEDS[1:2], SHAPE)

    def score(at: torch.Tensor) -> torch.Tensor:
        return classifier(denoiser(at, 2).x0, 0).log_softmax(1)[0, 2]

    slope = (score(x + 0.01 * direction) - score(x - 0.01 * direction)) / 0.02
    torch.testing.assert_close((gradient * direction).sum() / 3, slope, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(("variance", "moved"), [("fixed_small", False), ("fixed_large", True)])
def test_the_last_step_of_ddpm_is_guided_by_its_variance_which_may_be_none(
    network: ADM, variance: str, moved: bool
) -> None:
    """guided-diffusion multiplies the gradient by the posterior's variance, 0 at t = 0, not by the clipped one."""
    denoiser = Denoiser(network, spaced("ddpm"), variance)
    x = torch.zeros(1, *SHAPE)

    def last(scale: float) -> torch.Tensor:
        guidance = lambda denoiser, x, step: (denoiser(x, step), scale * torch.ones_like(x))  # noqa: E731
        with torch.no_grad():
            return next(samplers.ddpm(denoiser, guidance, State(1, x), lambda step: x)).x

    assert torch.equal(last(0.0), last(5.0)) != moved


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_a_sample_does_not_depend_on_its_batch(network: ADM, kind: str) -> None:
    classes = balanced_classes(0, 12, list(range(5)))

    def drawn(batch_size: int, shard_size: int) -> np.ndarray:
        parts = []
        for first in range(0, 12, shard_size):
            places = range(first, min(first + shard_size, 12))
            goal = Target(classifier, classes[places.start : places.stop])
            parts.append(
                sample(
                    model(network), len(places), [goal], sampler=kind, steps=10,
                    batch_size=batch_size, seeds=[(0, i) for i in places],
                )
            )  # fmt: skip
        return np.concatenate(parts)

    reference = drawn(12, 12)
    for batch_size, shard_size in [(1, 12), (5, 12), (4, 7), (3, 3)]:
        again = drawn(batch_size, shard_size)
        assert np.abs(again.astype(int) - reference.astype(int)).max() <= 1
    assert len(np.unique(reference)) > 20


def test_a_samplers_own_noise_comes_before_what_is_asked_for(network: ADM) -> None:
    ddpm, ddim = (
        [sample(model(network), 2, sampler=kind, steps=5, eta=eta) for eta in (0.0, 1.0)] for kind in ("ddpm", "ddim")
    )
    np.testing.assert_array_equal(*ddpm)
    assert (ddim[0] != ddim[1]).any()


def test_a_killed_shard_resumes_bit_for_bit(network: ADM, tmp_path: Path) -> None:
    checkpoint, calls = Checkpoint(tmp_path / "shard.ckpt", "mark"), 0

    def drawn(fail_at: int = -1) -> np.ndarray:
        def guide(x: torch.Tensor, log_snr: float) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise KeyboardInterrupt
            return classifier(x, log_snr)

        return sample(
            model(network), 8, [Target(guide, torch.arange(8) % 5)], sampler="ddpm", steps=10,
            batch_size=4, checkpoint=checkpoint, checkpoint_every=3,
        )  # fmt: skip

    whole = drawn()
    checkpoint.drop()
    calls = 0
    with pytest.raises(KeyboardInterrupt):
        drawn(fail_at=18)
    assert checkpoint.path.exists()
    calls = 0
    np.testing.assert_array_equal(drawn(), whole)
    assert calls == 4  # 20 calls in all, the checkpoint was written after 16


def test_a_sample_that_is_not_finite_stops_with_its_timestep(network: ADM) -> None:
    def broken(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return network(x, t) * (torch.nan if int(t[0]) < 450 else 1)

    with pytest.raises(NumericalError, match=r"clean: .* timestep 400"):
        sample(model(broken), 1, steps=10, name="clean")


def step_by_step(skipped: int = 0, shape: slice = slice(None), least: int = 0):
    """A sampler that does nothing, with mistakes."""

    def sampler(denoiser, guidance, state, noise, eta):
        for step in reversed(range(least, state.steps_left)):
            guidance(denoiser, state.x, step)
            yield State(step - skipped, state.x[shape])

    return sampler


def test_samples_that_diverge_are_counted_and_the_others_are_as_without_them(network: ADM, caplog) -> None:
    class Blows:
        """Guidance that divides by 0, for the samples of an even place."""

        guided, experts = True, False

        def __init__(self, guide, objective, scale: float) -> None:
            pass

        def __call__(self, denoiser, x, step: int):
            gradient = torch.zeros_like(x)
            gradient[::2] = np.inf if step == 4 else 0
            return denoiser(x, step), gradient

    goal = ppap.Goal(ppap.wrap_guide(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), outputs=4, image_size=8), 3)
    how = {"steps": 10, "seeds": SEEDS, "batch_size": 4}
    drawn = sample(model(network), 6, goal, guidance=Blows, diverging="grey", **how)
    free = sample(model(network), 6, **how)
    assert (drawn[1::2] == free[1::2]).all() and (drawn[::2] == 128).all()
    assert caplog.messages == [
        "samples: 2 of 4 samples are not finite, and grey",
        "samples: 1 of 2 samples are not finite, and grey",
    ]


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (step_by_step(skipped=1), r"with 3 steps left; \(2, 1, 8, 8\) with 4 was expected"),
        (step_by_step(shape=slice(1)), r"yields \(1, 1, 8, 8\)"),
        (step_by_step(least=2), "ends with 2 steps left"),
    ],
)
def test_a_sampler_of_ones_own_goes_step_by_step(network: ADM, sampler, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sample(model(network), 2, sampler=sampler, steps=5)
    assert sample(model(network), 2, sampler=step_by_step(), steps=5).shape == (2, 8, 8, 1)
