"""Guidance of flows by the schedulers of diffusers: an exact mixture and its exact classifier, and the share of steps."""

from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import ppap
from tests.test_pipelines import DEVIATION, Bayes, built, drawn

EULER, HEUN, LCM = "FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
CASES = [
    *((name, {"shift": shift}) for name in (EULER, HEUN, LCM) for shift in (1.0, 3.0, 7.0)),
    *((EULER, {"use_dynamic_shifting": True, "time_shift_type": kind}) for kind in ("exponential", "linear")),
    *((EULER, {"shift": 3.0, key: True}) for key in ("use_karras_sigmas", "use_exponential_sigmas", "stochastic_sampling")),
    (EULER, {"shift_terminal": 0.02}),
    *((name, FLOW) for name in ("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep")),
    *((name, FLOW | {"flow_shift": 3.0}) for name in ("DPMSolverMultistep", "UniPCMultistep", "SASolver")),
    *(("UniPCMultistep", FLOW | {"prediction_type": predicts}) for predicts in ("epsilon", "sample")),
    ("DPMSolverMultistep", FLOW | {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_gradient_of_an_exact_classifier_turns_a_flow_into_the_class(name: str, options: dict) -> None:
    guided = drawn(built(name, **options), ppap.Goal(Bayes(), 1))
    assert (guided > 0).float().mean() > 0.98
    assert abs(guided.mean() - 0.6) < (0.12 if name == "SASolver" else 0.05)  # whose noise does so by itself
    torch.testing.assert_close(guided, drawn(built(name, **options), classes=slice(1, 2)), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "options"), [(HEUN, {"shift": 3.0})])
def test_with_many_steps_the_spread_of_the_class_comes_out_too(name: str, options: dict) -> None:
    guided = drawn(built(name, **options), ppap.Goal(Bayes(), 1), count=400, steps=100)
    assert abs(guided.std() - DEVIATION) < 0.03


class Watched(Bayes):
    """The exact classifier, which notes the noise that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        self.asked.append(log_snr)
        return super().at(images, log_snr)


def test_the_log_snr_is_that_of_sigma_and_heun_asks_at_the_end_of_a_step_too() -> None:
    guide, scheduler = Watched(), built(HEUN, shift=3.0)
    drawn(scheduler, ppap.Goal(guide, 1), steps=5)
    sigmas = scheduler.sigmas[scheduler.sigmas < 0.99][:-1].double()
    torch.testing.assert_close(torch.tensor(guide.asked).double(), 2 * ((1 - sigmas) / sigmas).log())
    assert len(guide.asked) == 8


@pytest.mark.parametrize(("name", "options"), [(EULER, {}), (HEUN, {}), (LCM, {}), ("DPMSolverMultistep", FLOW)])
def test_of_noise_alone_there_is_no_guidance_whatever_the_gradient(name: str, options: dict) -> None:
    """At sigma 1 the velocity would change without bounds."""
    goal = ppap.Goal(None, objective=lambda images: images.flatten(1).sum(1))
    guided = drawn(built(name, **options), goal)
    assert guided.isfinite().all() and guided.abs().max() < 30 and guided.mean() > drawn(built(name, **options)).mean()


ACTING = [(EULER, 1), (HEUN, 2), ("DDIM", 1), ("DPMSolverMultistep", 1), ("HeunDiscrete", 2), ("PNDM", 1)]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "order"), ACTING)
@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.2, 1.0), (0.0, 0.5), (0.3, 0.7), (0.95, 1.0)])
def test_guidance_acts_within_the_share_of_the_steps(name: str, order: int, start: float, stop: float) -> None:
    guide, scheduler = Watched(), built(name, skip_prk_steps=True)
    drawn(scheduler, ppap.Goal(guide, 1), steps=20, start=start, stop=stop)
    calls, steps = len(scheduler.timesteps), -(-len(scheduler.timesteps) // order)
    kept = [i for i in range(calls) if start <= i // order / steps < stop]
    lost = 1 if name.startswith("FlowMatch") and start == 0 else 0
    assert len(guide.asked) == len(kept) - lost


def test_outside_of_the_share_samples_are_those_of_no_guidance_and_of_guidance() -> None:
    scheduler, goal = built(EULER), ppap.Goal(Bayes(), 1)
    plain, guided = drawn(scheduler, count=20), drawn(scheduler, goal, count=20)
    late = drawn(scheduler, goal, count=20, start=0.98)
    assert torch.equal(late, plain)  # of 25 steps the last begins at 0.96
    assert torch.equal(drawn(scheduler, goal, count=20, stop=1.0), guided)
    half = drawn(scheduler, goal, count=20, stop=0.5)
    assert (half - plain).abs().max() > 0.01 and (half - guided).abs().max() > 0.01


class Known(Bayes):
    """Experts of some noise alone."""

    def check(self, log_snrs: Any, betas: Any, autoencoder: Any, predicts: str) -> None:
        self.told, self.betas, self.predicts = list(log_snrs), betas, predicts


def test_experts_are_checked_for_the_steps_of_the_share_alone() -> None:
    guide, scheduler = Known(), built(EULER, shift=3.0)
    drawn(scheduler, ppap.Goal(guide, 1), count=2, steps=10, start=0.5)
    sigmas = scheduler.sigmas[5:-1].double()
    torch.testing.assert_close(torch.tensor(guide.told).double(), 2 * ((1 - sigmas) / sigmas).log())
    assert not len(guide.betas) and guide.predicts == "flow"


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"start": 0.5, "stop": 0.5}, r"start: 0\.5; less than stop, 0\.5"),
        ({"start": -0.1}, "start: "),
        ({"stop": 1.5}, "stop: "),
        ({"stop": float("nan")}, "stop: "),
    ],
)
def test_a_share_that_is_none_is_refused(share: dict[str, float], message: str) -> None:
    pipeline = SimpleNamespace(scheduler=built(EULER))
    with pytest.raises(ppap.PPAPError, match=message), ppap.guided(pipeline, ppap.Goal(Bayes(), 1), **share):
        pass


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (built(EULER, invert_sigmas=True), "FlowMatchEulerDiscreteScheduler: invert_sigmas: "),
        (built("UniPCMultistep", use_flow_sigmas=True, prediction_type="v_prediction"), "prediction_type: v_prediction"),
        (built("UniPCMultistep", prediction_type="flow_prediction"), "prediction_type: flow_prediction"),
        (diffusers.SCMScheduler(), "SCMScheduler: cannot be guided"),
    ],
)  # fmt: skip
def test_what_is_no_flow_that_can_be_guided_is_refused_by_name(scheduler: Any, message: str) -> None:
    pipeline = SimpleNamespace(scheduler=scheduler)
    with pytest.raises(ppap.PPAPError, match=message), ppap.guided(pipeline, ppap.Goal(Bayes(), 1)):
        pass


def test_parts_of_a_picture_with_noise_of_their_own_are_refused() -> None:
    scheduler, x = built(EULER), torch.zeros(1, 1, 1, 1)
    scheduler.set_timesteps(4)
    with (
        ppap.guided(SimpleNamespace(scheduler=scheduler), ppap.Goal(Bayes(), 1)),
        pytest.raises(ppap.PPAPError, match="per_token_timesteps"),
    ):
        scheduler.step(x, scheduler.timesteps[0], x, per_token_timesteps=torch.ones(1, 1))


class Estimated(Bayes):
    """A judge of the estimate of x0, as exact experts of it would be for one class of unit variance."""

    sees = "x0_hat"

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        return torch.stack([-images.flatten(1).sum(1), images.flatten(1).sum(1)], 1).clamp(-1, 1)


@pytest.mark.parametrize(("name", "options"), [(EULER, {}), ("DDIM", {}), ("UniPCMultistep", FLOW)])
def test_experts_of_the_estimate_are_shown_what_the_network_estimates(name: str, options: dict) -> None:
    scheduler, seen = built(name, **options), []

    class Noting(Estimated):
        def at(self, images: Tensor, log_snr: float) -> Tensor:
            seen.append(images.detach())
            return super().at(images, log_snr)

    guided = drawn(scheduler, ppap.Goal(Noting(), 1), count=50)
    assert (guided > 0).float().mean() > (drawn(scheduler, count=50) > 0).float().mean() + 0.2
    # clipped as pixels are; at the end the estimate is the sample, where the mixture's spread is small
    assert max(float(each.abs().max()) for each in seen) <= 1.0
    assert (seen[-1] - guided.clamp(-1, 1)).abs().max() < 0.1
