"""Noise schedules and noise ranges, by the rules that hold for all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppap.diffusion.noise_ranges import noise_ranges
from ppap.diffusion.samplers import SAMPLERS, respaced
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError

pytestmark = pytest.mark.fast


@given(
    name=st.sampled_from(["linear", "cosine"]),
    timesteps=st.integers(21, 1200),
    experts=st.integers(1, 20),
    allocation=st.sampled_from(["uniform", "log_snr", "reference"]),
)
def test_ranges_partition_the_timesteps(name, timesteps, experts, allocation) -> None:
    schedule = Schedule.create(name, timesteps)
    try:
        ranges = noise_ranges(schedule, experts, allocation)
    except ConfigError:  # a steep schedule can skip a whole range
        assert allocation == "log_snr" or (allocation == "reference" and timesteps < 2 * experts)
        return
    assert [t for part in ranges for t in part] == list(range(timesteps))
    assert len(ranges) == experts
    if allocation == "uniform":
        for n, part in enumerate(ranges, start=1):
            assert all((n - 1) * timesteps / experts <= t < n * timesteps / experts for t in part)


def test_log_snr_ranges_of_adm_are_those_of_the_design() -> None:
    schedule = Schedule.create("linear", 1000)
    boundaries = [part.start for part in noise_ranges(schedule, 5, "log_snr")][1:]
    assert boundaries == [17, 138, 492, 785]
    boundaries = [part.start for part in noise_ranges(schedule, 5, "uniform")][1:]
    assert boundaries == [200, 400, 600, 800]
    assert [part.stop for part in noise_ranges(schedule, 5, "reference")] == [201, 401, 601, 801, 1000]


def test_more_experts_than_timesteps_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 experts over 5 timesteps"):
        noise_ranges(Schedule.create("cosine", 5), 7, "uniform")


@given(
    name=st.sampled_from(["linear", "cosine"]),
    kind=st.sampled_from(["ddim", "ddpm"]),
    steps=st.sampled_from([1, 2, 10, 25, 100, 250, 1000]),
)
def test_respacing_keeps_the_signal_of_the_full_schedule(name, kind, steps) -> None:
    full = Schedule.create(name, 1000)
    spaced = respaced(full, SAMPLERS.get(kind), steps)
    assert len(spaced) == steps
    np.testing.assert_allclose(spaced.alphas_cumprod, full.alphas_cumprod[list(spaced.timesteps)], rtol=1e-6)
    assert np.all(np.diff(spaced.log_snr) < 0)
