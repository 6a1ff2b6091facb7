"""Rivals of experts against their formulas, written out here, and against each other where they are the same."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ppap
from ppap.config import reading as presets
from ppap.diffusion import samplers
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import GRADIENTS, Guidance
from ppap.diffusion.guidance_kinds import GUIDANCE
from ppap.diffusion.samplers import SAMPLERS, State, respaced
from ppap.diffusion.schedules import Schedule
from ppap.guides.tasks.classification import class_log_probability
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.errors import ConfigError

SHAPE, CLASSES, STEPS, SCALE = (1, 4, 4), 5, 10, 3.0
SCHEDULE = Schedule.create("cosine", 1000)
WANTED = torch.tensor([2, 0, 4])
EVERYWHERE = {"low": 0.0, "high": 1e9}
TFG_OPTIONS = {"rho": 1.5, "mu": 0.4, "sigma": 0.2, "iterations": 2, "draws": 3}


class Network(nn.Module):
    """A diffusion network that looks at all pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (0.5 * self.layers(x) + 0.8 * x.flatten(1)).view_as(x) * (0.5 + t / 2000)[:, None, None, None]


NETWORK = Network().eval().requires_grad_(False)


def classifier(activation: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), activation, nn.Linear(12, CLASSES)).requires_grad_(False)


RELU = classifier(nn.ReLU())


def guide(images: Tensor, log_snr: float) -> Tensor:
    return RELU(images)


def log_p(images: Tensor, classes: Tensor = WANTED) -> Tensor:
    return RELU(images).log_softmax(1).gather(1, classes[:, None])[:, 0]


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def denoiser(sampler: str = "ddim", steps: int = STEPS, variance: str = "fixed_small") -> Denoiser:
    return Denoiser(NETWORK, respaced(SCHEDULE, SAMPLERS.get(sampler), steps), variance)


def x_t(step: int = 0, count: int = 3) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(step))


def guidance(name: str, scale: float = SCALE, of_guide: Any = guide, **options: Any) -> Any:
    return GUIDANCE.get(name, options=options)(of_guide, class_log_probability(WANTED), scale)


def along(how: Any, steps: Sequence[int] = range(STEPS - 1, -1, -1)) -> Iterator[tuple[int, Any, Tensor | None]]:
    """The guidance of each of these steps, each at an x_t of its own."""
    asked = denoiser()
    for step in steps:
        yield step, *how(asked, x_t(step), step)


# -- formulas --------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", list(GRADIENTS))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("interval", EVERYWHERE),
        ("every_kth", {"k": 1}),
        ("averaged_estimate", {"decay": 0.0}),
        ("entropy_scaled", {"most": 1.0}),
        ("elucd", {"tau1": 1.0, "tau2": 1.0, "softplus": 1e6}),
    ],
)
def test_at_its_limit_a_rival_is_the_kind_that_it_changes(name: str, options: dict[str, float], of: str) -> None:
    steps = (STEPS - 1, 4, 0)
    plain, rival = along(guidance(of), steps), along(guidance(name, of=of, **options), steps)
    for (_, prediction, gradient), (_, other, changed) in zip(plain, rival, strict=True):
        torch.testing.assert_close(changed, gradient, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tuple(other), tuple(prediction))


def test_an_interval_guides_at_its_noise_alone() -> None:
    abar = SCHEDULE.alphas_cumprod[list(denoiser().schedule.timesteps)]
    sigma = np.sqrt((1 - abar) / abar)
    acting = [step for step, _, gradient in along(guidance("interval", low=0.3, high=2.0)) if gradient is not None]
    assert sorted(acting) == np.flatnonzero((sigma >= 0.3) & (sigma < 2.0)).tolist()
    assert 0 < len(acting) < STEPS


def test_every_kth_step_has_k_times_the_gradient() -> None:
    plain = {step: gradient for step, _, gradient in along(guidance("off_the_shelf"))}
    rival = {step: gradient for step, _, gradient in along(guidance("every_kth", k=4))}
    assert [step for step in rival if rival[step] is not None] == [9, 5, 1]
    for step in (9, 5, 1):
        torch.testing.assert_close(rival[step], 4 * plain[step])


def test_adam_is_that_of_torch_and_begins_with_the_sign() -> None:
    """Adam-normalised guidance is torch.optim.Adam: its learning rate is the scale, its gradient has the other sign."""
    place = torch.zeros(3, *SHAPE, requires_grad=True)
    adam = torch.optim.Adam([place], lr=0.02, betas=(0.32, 0.51), eps=1e-8)
    gradients = {step: gradient for step, _, gradient in along(guidance("off_the_shelf", 1.0))}
    for step, _, changed in along(guidance("adam_normalised", 0.02)):
        before, place.grad = place.detach().clone(), -gradients[step]
        adam.step()
        torch.testing.assert_close(changed, place.detach() - before, rtol=1e-4, atol=1e-6)
        if step == STEPS - 1:
            torch.testing.assert_close(changed, 0.02 * gradients[step].sign())


def test_averaged_gradients_are_weighted_sums() -> None:
    gradients = [gradient for *_, gradient in along(guidance("x0_gradient"))]
    averages = [average for *_, average in along(guidance("averaged_estimate", decay=0.7))]
    for count, average in enumerate(averages):
        weights = [0.7**count, *(0.3 * 0.7 ** (count - i) for i in range(1, count + 1))]
        expected = sum(w * g for w, g in zip(weights, gradients, strict=False))
        torch.testing.assert_close(average, expected)


@pytest.mark.parametrize("sharp", [1.0, 40.0])
def test_entropy_scales_each_sample_by_what_its_classifier_knows(sharp: float) -> None:
    def sharpened(images: Tensor, log_snr: float) -> Tensor:
        return sharp * guide(images, log_snr)

    for step, _, changed in along(guidance("entropy_scaled", of_guide=sharpened, most=4.0), (7, 2)):
        (_, _, plain), *_ = along(guidance("off_the_shelf", of_guide=sharpened), (step,))
        p = (sharp * RELU(x_t(step)).double().numpy()).astype(float)
        p = np.exp(p - p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        factor = np.minimum(math.log(CLASSES) / np.maximum(entropy, 1e-300), 4.0)
        expected = torch.tensor(factor)[:, None, None, None] * plain.double()
        torch.testing.assert_close(changed.double(), expected, rtol=1e-4, atol=1e-6)
        assert (factor.max() == 4.0) == (sharp > 1)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_elucd_moves_the_mean_of_ddpm_as_it_says(gamma: float) -> None:
    asked, smooth, steps = denoiser("ddpm"), classifier(nn.Softplus(beta=3)), len(denoiser("ddpm").schedule)

    def calibrated(x0: Tensor) -> Tensor:
        logits = smooth(x0)
        wanted = (1.0 * logits).exp().gather(1, WANTED[:, None])[:, 0]
        return (wanted / (0.5 * logits).exp().sum(1)).log()

    step, silent = steps // 2, torch.zeros(3, *SHAPE)
    x, how = x_t(step), guidance("elucd", gamma=gamma)
    prediction, gradient = how(asked, x, step)
    g, variance = slope(calibrated, prediction.x0), prediction.log_variance.exp()
    extra = gamma * math.sin(math.pi * step / steps) * float(asked.schedule.betas.max())
    one = next(samplers.ddpm(asked, lambda *_: (prediction, gradient), State(step + 1, x), lambda _: silent))
    mean = asked.posterior_mean(x, prediction.x0, step)
    torch.testing.assert_close(one.x, mean + (variance + extra) * SCALE * g, rtol=1e-4, atol=1e-5)


def ddim_step(asked: Denoiser, x0: Tensor, eps: Tensor, step: int, z: Tensor, eta: float) -> Tensor:
    abar, previous = asked.schedule.alphas_cumprod[step], asked.schedule.alphas_cumprod_prev[step]
    sigma = eta * ((1 - previous) / (1 - abar) * (1 - abar / previous)) ** 0.5
    return previous**0.5 * x0 + (1 - previous - sigma**2) ** 0.5 * eps + sigma * z


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_step_of_tfg_is_that_of_its_algorithm(eta: float) -> None:
    asked, step = denoiser(), 6
    x, z = x_t(step), x_t(100)
    how = guidance("tfg", **TFG_OPTIONS)
    how.noise = lambda number: x_t(200 + number)
    one = next(samplers.ddim(asked, how, State(step + 1, x), lambda _: z, eta))

    abar, previous = asked.schedule.alphas_cumprod, asked.schedule.alphas_cumprod_prev
    alpha = abar / previous
    weight = alpha[step] * STEPS / alpha.sum()
    noises = [0.2 * (1 - abar[step]) ** 0.5 * x_t(200 + 3 * step + draw) for draw in range(3)]

    def smoothed(x0: Tensor) -> Tensor:
        return torch.stack([log_p(x0 + noise).exp() for noise in noises]).mean(0).log()

    prediction = asked(x, step)
    moved = prediction.x0
    drift = SCALE * 1.5 * weight * slope(lambda at: smoothed(asked(at, step).x0), x)
    for _ in range(2):
        moved = moved + SCALE * 0.4 * weight * slope(smoothed, moved)
    expected = ddim_step(asked, prediction.x0, prediction.eps, step, z, eta)
    expected = expected + drift / alpha[step] ** 0.5 + previous[step] ** 0.5 * (moved - prediction.x0)
    torch.testing.assert_close(one.x, expected.float(), rtol=1e-4, atol=1e-5)


def test_without_iterations_and_noise_tfg_is_the_x0_gradient_times_a_number() -> None:
    plain = {step: gradient for step, _, gradient in along(guidance("x0_gradient"), (8, 3))}
    for step, prediction, gradient in along(guidance("tfg", sigma=0.0, iterations=0), (8, 3)):
        moved = prediction.x0 - denoiser()(x_t(step), step).x0
        ratio = (moved * plain[step]).sum() / plain[step].square().sum()
        assert gradient is None and ratio > 0
        torch.testing.assert_close(moved, ratio * plain[step], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_mpgd_moves_the_estimate_and_leaves_eps_to_the_network(sampler: str) -> None:
    asked, step, z = denoiser(sampler), 5, x_t(100)
    x = x_t(step)
    how = guidance("mpgd", eps="stays")
    one = next(SAMPLERS.get(sampler)(asked, how, State(step + 1, x), lambda _: z, 1.0))
    prediction = asked(x, step)
    moved = prediction.x0 + SCALE * slope(log_p, prediction.x0)
    if sampler == "ddim":
        expected = ddim_step(asked, moved, prediction.eps, step, z, 1.0)
    else:
        c1, c2 = (float(c[step]) for c in (asked.schedule.posterior_mean_coef1, asked.schedule.posterior_mean_coef2))
        expected = c1 * moved + c2 * x + (0.5 * prediction.log_variance).exp() * z
    torch.testing.assert_close(one.x, expected.float(), rtol=1e-4, atol=1e-5)


# -- samples ---------------------------------------------------------------------------------------


class Calling(nn.Module):
    """A network that counts its calls forward and backward, and stops at one."""

    def __init__(self, stop: int = -1) -> None:
        super().__init__()
        self.calls, self.backward_calls, self.stop = 0, 0, stop

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        x = x.view_as(x)
        if x.requires_grad:
            x.register_hook(self._seen)
        return NETWORK(x, t)

    def _seen(self, gradient: Tensor) -> None:
        self.backward_calls += 1


class Goal:
    """A class for each sample, seen by a guide that counts its calls; experts if it `sees` the estimate."""

    def __init__(self, scale: float = SCALE, sees: str = "x_t") -> None:
        self.scale, self.sees, self.calls = scale, sees, 0

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        self.calls += 1
        return RELU(images)

    def targets(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        return WANTED.repeat(count // 3)

    def check(self, log_snrs: Any, betas: Any, autoencoder: Any = None, predicts: str = "eps") -> None: ...

    def objective_for(self, targets: Tensor) -> Any:
        return class_log_probability(targets)


def drawn(kind: Any, goal: Goal | None = None, network: nn.Module = NETWORK, **how: Any) -> np.ndarray:
    model = ppap.DiffusionModel(network, SHAPE, SCHEDULE)
    return ppap.sample(model, 6, goal or Goal(), guidance=kind, steps=STEPS, decode=False, **how)


RIVALS = [
    ("averaged_estimate", {}, SCALE), ("adam_normalised", {}, 0.03), ("tfg", TFG_OPTIONS, SCALE), ("elucd", {"gamma": 0.3}, 0.1),
    ("entropy_scaled", {}, SCALE), ("interval", {}, SCALE), ("every_kth", {"k": 3}, SCALE), ("mpgd", {"eps": "stays"}, SCALE),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "scale"), RIVALS)
def test_a_sample_depends_neither_on_its_batch_nor_on_restarts(
    name: str, options: dict[str, Any], scale: float, tmp_path: Path
) -> None:
    kind = GUIDANCE.get(name, options=options)
    checkpoint = Checkpoint(tmp_path / "shard.ckpt", "mark")
    whole, kept = drawn(kind, Goal(scale)), {"batch_size": 4, "checkpoint": checkpoint, "checkpoint_every": 4}
    assert np.abs(whole - drawn(kind, Goal(0.0))).max() > 0.01
    with pytest.raises(KeyboardInterrupt):
        drawn(kind, Goal(scale), Calling(stop=STEPS + 7), **kept)
    assert checkpoint.path.exists()
    resumed = Calling()
    in_two = drawn(kind, Goal(scale), resumed, **kept)
    assert resumed.calls == 6
    checkpoint.drop()
    np.testing.assert_array_equal(in_two, drawn(kind, Goal(scale), Calling(), **kept))
    np.testing.assert_allclose(in_two, whole, rtol=1e-3, atol=1e-3)


COUNTED = [*RIVALS, ("interval", {"of": "x0_gradient"}, SCALE), *((name, {}, SCALE) for name in GRADIENTS)]


@pytest.mark.parametrize(("name", "options", "scale"), COUNTED)
def test_a_kind_says_how_often_it_asks_the_networks(name: str, options: dict[str, Any], scale: float) -> None:
    kind, network, goal = GUIDANCE.get(name, options=options), Calling(), Goal(scale)
    drawn(kind, goal, network)
    said = guidance(name, **options).evaluations(denoiser().schedule)
    assert (network.calls, network.backward_calls, goal.calls) == said


@pytest.mark.parametrize("name", ["interval", "entropy_scaled", "elucd"])
def test_experts_of_the_estimate_are_shown_it_by_rivals_too(name: str) -> None:
    """Without a rival they guide as `x0_estimate` does."""
    options = EVERYWHERE if name == "interval" else {}
    experts = drawn(functools.partial(GUIDANCE.get(name), of="experts", **options), Goal(sees="x0_hat"))
    np.testing.assert_array_equal(experts, drawn(functools.partial(GUIDANCE.get(name), of="x0_estimate", **options)))


# -- experts of midpoints --------------------------------------------------------------------------


class Recording(nn.Module):
    """A classifier that notes the power of each image that it learns from, (B,)."""

    powers: ClassVar[list[Tensor]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.powers.append(x.detach().square().flatten(1).mean(1))
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("trained_at", ["range", "midpoint"])
def test_an_expert_of_midpoints_learns_at_one_noise_and_knows_its_whole_range(trained_at: str) -> None:
    Recording.powers.clear()
    model, grey = ppap.DiffusionModel(NETWORK, SHAPE, SCHEDULE), np.full((200, 4, 4, 1), 127, np.uint8)
    wrapped = ppap.wrap_guide(Recording(), outputs=CLASSES, image_size=4, mean=(0.5,), std=(0.5,))
    how = {"training": {"steps": 4, "batch_size": 200}, "adapter": None, "warm_share": 0.0, "held_out": 0}
    bank = ppap.train_experts(wrapped, model, grey, experts=2, trained_at=trained_at, **how)
    assert [expert.timesteps for expert in bank.experts] == [range(500), range(500, 1000)]
    for timesteps, powers in zip(
        (range(500), range(500, 1000)), (Recording.powers[:2], Recording.powers[2:]), strict=True
    ):
        seen, noise = torch.cat(powers), 1 - SCHEDULE.alphas_cumprod[list(timesteps)]
        sampled = noise[249] * (2 / 16) ** 0.5  # the deviation of the mean of 16 squares
        if trained_at == "midpoint":
            assert abs(float(seen.mean()) - noise[249]) < 4 * sampled / 400**0.5
            assert float(seen.std()) < 1.5 * sampled
        else:
            assert float(seen.std()) > 0.5 * noise.std() > 0


# -- presets and errors ----------------------------------------------------------------------------


def method(**keys: Any) -> dict[str, Any]:
    return {"methods__mine": keys}


def test_a_rival_of_experts_has_their_facts_and_their_keys(preset_file: Any) -> None:
    preset = presets.load(
        preset_file(**method(guidance="interval", options={"of": "experts", "low": 0.5}, experts_of="ppap_5"))
    )
    kind: type[Guidance] = preset.guidance("mine")
    assert kind.experts and kind.sees_x_t and not kind.through_denoiser
    assert preset.methods["mine"].experts == preset.methods["ppap_5"].experts


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"guidance": "interval", "options": {"lo": 1}}, "guidance 'interval': takes no option 'lo' (it takes of, low, high, outside)"),
        ({"guidance": "every_kth", "options": {"k": 0}}, "guidance 'every_kth': options: k: Input should be greater than 0"),
        ({"guidance": "tfg", "options": {"scale": 3}}, "guidance 'tfg': takes no option 'scale'"),
        ({"guidance": "interval", "options": {"of": "tfg"}}, "options: of: guidance 'tfg': write off_the_shelf, "),
        ({"guidance": "interval", "options": {"of": "experts"}}, "methods.mine: supervision, experts and trainable"),
        ({"guidance": "x0_gradient", "trained_at": "midpoint"}, "methods.mine.trained_at: belongs to guidance: experts"),
        ({"guidance": "experts", "experts_of": "ppap_5", "trained_at": "midpoint"}, "mine.trained_at: is that of ppap_5"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_named_in_a_line(preset_file: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ppap.PPAPError) as error:
        presets.load(preset_file(**method(**keys)))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_only_values_tell_is_named_too() -> None:
    with pytest.raises(ConfigError, match=r"'interval': options: low: 2; less than high, 1, was expected"):
        guidance("interval", low=2.0, high=1.0)
    with pytest.raises(ConfigError, match=r"'entropy_scaled': is of one classifier, whose answers are logits"):
        drawn("entropy_scaled", [Goal(), Goal()])
    with pytest.raises(ConfigError, match="'tfg': draws noise, which sampling gives it"):
        guidance("tfg")(denoiser(), x_t(), 3)


@pytest.mark.parametrize("name", ["adam_normalised", "averaged_estimate", "every_kth", "elucd", "tfg"])
def test_what_needs_all_steps_is_refused_within_a_pipeline(name: str) -> None:
    goal = ppap.Goal(None, objective=lambda images: images.flatten(1).sum(1))
    with pytest.raises(ConfigError, match=r"only ppap\.sample draws with it"):
        ppap.guided(SimpleNamespace(scheduler=None), goal, guidance=name).__enter__()


def test_outside_an_interval_is_everywhere_else() -> None:
    inside, outside = (guidance("interval", outside=outside) for outside in (False, True))
    acting = [{step for step, _, gradient in along(how) if gradient is not None} for how in (inside, outside)]
    assert acting[0] and acting[1] and acting[0].isdisjoint(acting[1])
    assert set.union(*acting) == set(range(STEPS))
