"""The second stage of a cascade, on networks whose answers are known."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ppap.data.images import to_tensor, to_uint8
from ppap.diffusion.cascade import SecondStage
from ppap.diffusion.denoiser import Network
from ppap.diffusion.sampling import upsample
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import NumericalError
from ppap.utils.seeds import initial_noise

pytestmark = pytest.mark.fast
SEEDS = [(0, 0), (0, 1), (7, 1)]
LARGE = (3, 8, 8)
FULL = Schedule.create("linear", 1000)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
ddpm = partial(upsample, sampler="ddpm", steps=4, batch_size=3)


def knowing(low_res: torch.Tensor) -> Network:
    """A network whose estimate of x_0 is the small images, as large as x_t."""
    abar = torch.from_numpy(FULL.alphas_cumprod)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal = abar[t][:, None, None, None].float()
        x0 = F.interpolate(low_res, x.shape[-2:], mode="bilinear")
        return (x - signal.sqrt() * x0) / (1 - signal).sqrt()

    return network


def leaning(low_res: torch.Tensor) -> Network:
    """A network that keeps much of the noise that it is given."""
    return lambda x, t: 0.9 * x.tanh() - 0.2 * F.interpolate(low_res, x.shape[-2:])


def stage(upsampling=leaning, temperature: float = 1.0) -> SecondStage:
    return SecondStage(upsampling, LARGE, FULL, temperature=temperature)


def test_it_enlarges_what_the_first_stage_drew() -> None:
    small = to_tensor(IMAGES)
    wanted = to_uint8(F.interpolate(small, LARGE[1:], mode="bilinear"))
    assert np.abs(ddpm(stage(knowing), IMAGES, SEEDS).astype(int) - wanted).max() <= 1


def test_the_stages_share_no_noise_and_temperature_scales_it() -> None:
    starts = []

    def watching(low_res: torch.Tensor) -> Network:
        return lambda x, t: starts.append(x) or torch.zeros_like(x)

    for temperature in (1.0, 0.5):
        ddpm(stage(watching, temperature), IMAGES, SEEDS)
    hot, cold = starts[0], starts[4]
    assert not torch.isin(initial_noise(SEEDS, LARGE), hot).any()
    assert hot.std() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(cold, 0.5 * hot)


def test_what_is_not_finite_is_named() -> None:
    with pytest.raises(NumericalError, match=r"samples, upsampled: .* timestep 999"):
        ddpm(stage(lambda low_res: lambda x, t: x * torch.nan), IMAGES, SEEDS)
