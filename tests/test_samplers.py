"""The samplers against diffusers' schedulers and an exact Bayes classifier, and their invariances."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ppap import config as presets
from ppap.config import SamplerConfig
from ppap.data import datasets
from ppap.diffusion import samplers
from ppap.diffusion.batches import Drawing, draw
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import NoGuidance, NoisyInputGuidance, X0Gradient
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.sampler_kinds import SAMPLERS
from ppap.diffusion.samplers import Sampler, State
from ppap.diffusion.schedules import Schedule
from ppap.guides.tasks.classification import class_log_probability
from ppap.utils.errors import NumericalError
from ppap.utils.seeds import StepNoise, balanced_classes, initial_noise
from ppap.workflow.checkpoints import Checkpoint
from tests.conftest import DIGITS

CPU = torch.device("cpu")
SEEDS = [(0, i) for i in range(6)]
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
    return Schedule.respaced(name, 1000, SAMPLERS.get(kind).timesteps(1000, steps))


def built(kind: str) -> Sampler:
    return SAMPLERS.get(kind).build(SamplerConfig(kind=kind, steps=10, scale=2.0))


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_ddim_is_diffusers_ddim(network: ADM, name: str, eta: float) -> None:
    schedule = spaced("ddim", name=name)
    theirs = DDIMScheduler(
        trained_betas=Schedule.create(name, 1000).betas, clip_sample=True, set_alpha_to_one=True
    )
    theirs.set_timesteps(10)
    assert theirs.timesteps.tolist() == list(schedule.timesteps)[::-1]
    noise = StepNoise(SEEDS, SHAPE, CPU)
    x = initial_noise(SEEDS, SHAPE)
    denoiser = Denoiser(network, schedule, "fixed_small")
    *_, mine = samplers.ddim(denoiser, NoGuidance(), State(10, x), noise, eta)
    for step, t in zip(reversed(range(10)), theirs.timesteps, strict=True):
        eps = network(x, t.repeat(len(x)))
        given = noise(step) if step else torch.zeros_like(x)
        x = theirs.step(
            eps, t, x, eta=eta, use_clipped_model_output=True, variance_noise=given
        ).prev_sample
    torch.testing.assert_close(mine.x, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_is_diffusers_ddpm(network: ADM, variance: str, monkeypatch) -> None:
    schedule = Schedule.create("linear", 100)
    theirs = DDPMScheduler(
        100, trained_betas=schedule.betas, variance_type=variance, clip_sample=True
    )
    noise = StepNoise(SEEDS, SHAPE, CPU)
    x = initial_noise(SEEDS, SHAPE)
    denoiser = Denoiser(network, schedule, variance)
    *_, mine = samplers.ddpm(denoiser, NoGuidance(), State(100, x), noise, 1.0)
    for step, t in zip(reversed(range(100)), theirs.timesteps, strict=True):
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
            lambda *a, step=step, **k: noise(step),
        )
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


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_a_sample_does_not_depend_on_its_batch(network: ADM, kind: str, tmp_path: Path) -> None:
    sampler = built(kind)
    targets = balanced_classes(0, 12, list(range(5)))
    denoiser = Denoiser(network, spaced(kind), "fixed_small")

    def drawn(batch_size: int, shard_size: int) -> np.ndarray:
        parts = []
        for first in range(0, 12, shard_size):
            indices = range(first, min(first + shard_size, 12))
            shard = Drawing(
                "t", [(0, i) for i in indices], targets[indices.start : indices.stop], SHAPE,
                batch_size, Checkpoint(tmp_path / "x", ""), 100,
            )  # fmt: skip
            parts.append(draw(shard, denoiser, sampler, guided, CPU))
        return np.concatenate(parts)

    def guided(y: torch.Tensor) -> NoisyInputGuidance:
        return NoisyInputGuidance(classifier, class_log_probability(y), 2.0)

    reference = drawn(12, 12)
    for batch_size, shard_size in [(1, 12), (5, 12), (4, 7), (3, 3)]:
        again = drawn(batch_size, shard_size)
        assert np.abs(again.astype(int) - reference.astype(int)).max() <= 1
    assert len(np.unique(reference)) > 20


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_states_agree_to_1e_4_whatever_the_batch(network: ADM, kind: str) -> None:
    denoiser = Denoiser(network, spaced(kind), "fixed_small")
    y = torch.tensor([0, 1, 2, 3, 4, 0])

    def last(chosen: slice) -> torch.Tensor:
        seeds = SEEDS[chosen]
        guidance = NoisyInputGuidance(classifier, class_log_probability(y[chosen]), 2.0)
        start = State(10, initial_noise(seeds, SHAPE))
        noise = StepNoise(seeds, SHAPE, CPU)
        *_, end = getattr(samplers, kind)(denoiser, guidance, start, noise, 1.0)
        return end.x

    apart = torch.cat([last(slice(i, i + 1)) for i in range(6)])
    torch.testing.assert_close(last(slice(0, 6)), apart, rtol=1e-4, atol=1e-4)


def test_a_killed_shard_resumes_bit_for_bit(network: ADM, tmp_path: Path) -> None:
    sampler = built("ddpm")
    denoiser = Denoiser(network, spaced("ddpm"), "fixed_small")
    shard = Drawing(
        "t", [(0, i) for i in range(8)], torch.zeros(8, dtype=torch.int64), SHAPE, 4,
        Checkpoint(tmp_path / "shard.ckpt", "mark"), 3,
    )  # fmt: skip

    class Killed(BaseException):
        pass

    calls = 0

    def at(fail_at: int):
        def guide(x: torch.Tensor, timestep: int) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise Killed
            return classifier(x, timestep)

        return lambda y: NoisyInputGuidance(guide, class_log_probability(y), 2.0)

    whole = draw(shard, denoiser, sampler, at(-1), CPU)
    shard.checkpoint.drop()
    calls = 0
    with pytest.raises(Killed):
        draw(shard, denoiser, sampler, at(18), CPU)
    assert shard.checkpoint.path.exists()
    calls = 0
    np.testing.assert_array_equal(draw(shard, denoiser, sampler, at(-1), CPU), whole)
    assert calls == 4  # 20 calls in all, the checkpoint was written after 16


def test_a_sample_that_is_not_finite_stops_with_its_timestep(network: ADM, tmp_path: Path) -> None:
    sampler = built("ddim")
    schedule = spaced("ddim")

    def broken(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return network(x, t) * (torch.nan if int(t[0]) < 450 else 1)

    checkpoint = Checkpoint(tmp_path / "c", "")
    shard = Drawing("clean", [(0, 0)], torch.zeros(1, dtype=torch.int64), SHAPE, 1, checkpoint, 2)
    with pytest.raises(NumericalError, match="timestep 400"):
        draw(shard, Denoiser(broken, schedule, "fixed_small"), sampler, lambda y: NoGuidance(), CPU)


class ExactDigits:
    """The exact posteriors of noised training digits: of x0 (a denoiser) and of the class (a guide)."""

    def __init__(self) -> None:
        config = presets.load(DIGITS)
        data = datasets.load(config.dataset, "train")
        self.images = datasets.to_tensor(data.images).flatten(1)
        self.classes = data.classes
        self.abar = torch.tensor(Schedule.create("cosine", 1000).alphas_cumprod)

    def weights(self, x: torch.Tensor, timestep: int) -> torch.Tensor:
        abar = float(self.abar[timestep])
        square = torch.cdist(x.flatten(1), abar**0.5 * self.images).square()
        return -square / (2 * (1 - abar))

    def eps(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        abar = float(self.abar[int(t[0])])
        x0 = self.weights(x, int(t[0])).softmax(1) @ self.images
        return (x - abar**0.5 * x0.view_as(x)) / (1 - abar) ** 0.5

    def logits(self, x: torch.Tensor, timestep: int) -> torch.Tensor:
        weights = self.weights(x, timestep)
        return torch.stack([weights[:, self.classes == c].logsumexp(1) for c in range(10)], dim=1)


def test_an_exact_bayes_classifier_guides_ddim_to_the_target_class(tmp_path: Path) -> None:
    exact = ExactDigits()
    sampler = built("ddim")
    denoiser = Denoiser(exact.eps, spaced("ddim", 25), "fixed_small")
    targets = balanced_classes(0, 200, list(range(10)))
    shard = Drawing(
        "b", [(0, i) for i in range(200)], targets, SHAPE, 100, Checkpoint(tmp_path / "b", ""), 99
    )

    def rate(scale: float) -> float:
        images = draw(
            shard, denoiser, sampler,
            lambda y: NoisyInputGuidance(exact.logits, class_log_probability(y), scale), CPU,
        )  # fmt: skip
        nearest = torch.cdist(datasets.to_tensor(images).flatten(1), exact.images).argmin(1)
        return float((exact.classes[nearest] == targets).float().mean())

    assert rate(2.0) > 0.9
    assert rate(0.0) < 0.2  # without guidance the target is met by chance
