"""The cascade: two stages, drawn one after the other, on networks whose answers are known."""

import pytest
import torch
import torch.nn.functional as F

from ppap.data import datasets
from ppap.diffusion.cascade import Cascade, CascadeState, FirstStage, SecondStage, eight_bits
from ppap.diffusion.denoiser import Denoiser, Network
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.sampler_kinds import SAMPLERS
from ppap.diffusion.samplers import State
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError, NumericalError

CPU = torch.device("cpu")
SEEDS = [(0, 0), (0, 1), (7, 1)]
SMALL, LARGE = (3, 4, 4), (3, 8, 8)


class Settings:
    eta = 1.0


def schedule(name: str, kind: str, steps: int) -> Schedule:
    return Schedule.respaced(name, 1000, SAMPLERS.get(kind).timesteps(1000, steps))


def shrinking(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A network that takes a part of x_t for noise."""
    return 0.9 * x.tanh() + 0.1 * x.mean(dim=1, keepdim=True)


def knowing(low_res: torch.Tensor) -> Network:
    """A network whose estimate of x_0 is the small images, as large as x_t."""
    abar = torch.from_numpy(Schedule.create("linear", 1000).alphas_cumprod)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal = abar[t][:, None, None, None].float()
        x0 = F.interpolate(low_res, x.shape[-2:], mode="bilinear")
        return (x - signal.sqrt() * x0) / (1 - signal).sqrt()

    return network


def leaning(low_res: torch.Tensor) -> Network:
    """A network that keeps much of the noise that it is given."""
    return lambda x, t: shrinking(x, t) - 0.2 * F.interpolate(low_res, x.shape[-2:])


def cascade(upsampling=leaning, kind: str = "ddpm", temperature: float = 1.0) -> Cascade:
    sampler = SAMPLERS.get(kind).build(Settings())
    small = Denoiser(shrinking, schedule("cosine", kind, 5), "fixed_small")
    large = schedule("linear", kind, 4)
    return Cascade(
        FirstStage(small, sampler, SMALL),
        SecondStage(upsampling, large, "fixed_small", sampler, LARGE, temperature),
    )


def drawn(chosen: Cascade, seeds, at: CascadeState | None = None) -> list[CascadeState]:
    at = chosen.begin(seeds, CPU) if at is None else at
    return list(chosen.states("samples", NoGuidance(), at, seeds))


def test_the_second_stage_enlarges_what_the_first_drew() -> None:
    states = drawn(cascade(knowing), SEEDS)
    small, last = states[4], states[-1]
    assert small.low_res is None and small.state.x.shape == (3, *SMALL)
    wanted = F.interpolate(eight_bits(small.state.x), LARGE[1:], mode="bilinear")
    torch.testing.assert_close(last.state.x, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_an_image_does_not_depend_on_its_batch(kind: str) -> None:
    together = drawn(cascade(kind=kind), SEEDS)[-1]
    for i, seed in enumerate(SEEDS):
        alone = drawn(cascade(kind=kind), [seed])[-1]
        torch.testing.assert_close(alone.state.x[0], together.state.x[i], rtol=1e-5, atol=1e-5)
    first, second = drawn(cascade(kind=kind), SEEDS[:2])[-1].state.x
    assert not torch.allclose(first, second, atol=0.1)


def test_it_goes_on_from_any_state_bit_for_bit() -> None:
    chosen = cascade()
    states = drawn(chosen, SEEDS)
    assert [chosen.steps_left(state) for state in states] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    for done, state in enumerate(states, 1):
        rest = drawn(chosen, SEEDS, state)
        assert len(rest) == len(states) - done
        for found, wanted in zip(rest, states[done:], strict=True):
            assert torch.equal(found.state.x, wanted.state.x)


def test_it_goes_on_from_images_that_were_stored() -> None:
    chosen = cascade()
    states = drawn(chosen, SEEDS)
    stored = datasets.to_tensor(datasets.to_uint8(states[4].state.x))
    alone = Cascade(None, chosen.second)
    last = drawn(alone, SEEDS, alone.begin_upsampling(stored, SEEDS))[-1]
    assert torch.equal(last.state.x, states[-1].state.x)


def test_the_stages_share_no_noise() -> None:
    chosen = cascade()
    small = chosen.begin(SEEDS, CPU).state.x
    large = chosen.begin_upsampling(torch.zeros(3, *SMALL), SEEDS).state.x
    assert not torch.isin(small, large).any()
    assert large.std() == pytest.approx(1, abs=0.1)


def test_temperature_scales_the_noise_that_the_second_stage_starts_from() -> None:
    images = torch.zeros(3, *SMALL)
    hot, cold = (cascade(temperature=t).begin_upsampling(images, SEEDS) for t in (1.0, 0.5))
    torch.testing.assert_close(cold.state.x, 0.5 * hot.state.x)


def test_a_missing_stage_is_named() -> None:
    whole = cascade()
    with pytest.raises(ConfigError, match="lacks its first stage"):
        Cascade(None, whole.second).begin(SEEDS, CPU)
    with pytest.raises(ConfigError, match="lacks its second stage"):
        drawn(Cascade(whole.first, None), SEEDS)


def test_what_is_not_finite_is_named_by_its_stage() -> None:
    broken = cascade(lambda low_res: lambda x, t: x * torch.nan)
    with pytest.raises(NumericalError, match=r"samples, upsampled: .* timestep 999"):
        drawn(broken, SEEDS)


def test_guidance_is_of_the_first_stage() -> None:
    calls: list[State] = []

    class Counted(NoGuidance):
        def __call__(self, denoiser, x, step):
            calls.append(x.shape)
            return super().__call__(denoiser, x, step)

    chosen = cascade()
    list(chosen.states("samples", Counted(), chosen.begin(SEEDS, CPU), SEEDS))
    assert calls == [(3, *SMALL)] * 5
