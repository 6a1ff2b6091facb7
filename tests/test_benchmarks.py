"""Benchmarks: they run, print a row for each thing they measure, and their peers do the same work as ours."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from benchmarks import networks, ours, pipeline, plain
from benchmarks.setting import SCALE, Setting
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance, NoGuidance, NoisyInputGuidance, X0Gradient
from ppap.preset import Preset
from ppap.seeds import initial_noise
from ppap.tasks.classification import class_log_probability
from tests.conftest import ROOT, SMOKE

CPU = torch.device("cpu")


def run(module: str, *arguments: object) -> list[str]:
    """The lines that a benchmark prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_full_size_benchmark_measures_every_kind_of_work() -> None:
    kinds = ("forward", "guided", "x0_gradient", "training")
    small = ("--preset", SMOKE, "--batch", 2, "--repeats", 1, "--precision", "float32")
    printed = run("scale", *small, "--work", *kinds)
    rows = [line.split() for line in printed if line.startswith(kinds)]
    assert [row[0] for row in rows] == list(kinds)
    assert all(float(number) >= 0 for row in rows for number in row[2:])


def test_the_benchmark_of_switching_names_its_peer() -> None:
    printed = run("switching", "--model", "resnet18", "--rounds", 1)
    rows = [line.rsplit(maxsplit=2) for line in printed[2:]]
    assert [row[0] for row in rows] == [
        "merging at every switch",
        "first time in memory",
        "exchanged",
    ]
    assert float(rows[0][2]) == 1 and all(float(row[1]) >= 0 for row in rows)


def test_ours_stands_beside_both_peers() -> None:
    printed = run("sampling", "--preset", SMOKE, "--batch", 2, "--laps", 1, "--options", "bfloat16")
    found = [re.fullmatch(r"(\S.*?) +([\d. ]+)", line) for line in printed]
    rows = {row[1]: list(map(float, row[2].split())) for row in found if row}
    for said in ("no guidance", "guided by resnet"):
        theirs, plainly = rows[f"diffusers' DDIMPipeline, {said}"], rows[f"plain PyTorch loop, {said}"]  # fmt: skip
        mine = rows[f"ours, {said}"]
        assert theirs[1] == plainly[2] == 1
        assert mine[1:] == [pytest.approx(mine[0] / peer[0], abs=0.02) for peer in (theirs, plainly)]  # fmt: skip
    assert "ours, guided by resnet, bfloat16" in rows
    assert "ours, training an expert of resnet" in rows


# -- the peers -------------------------------------------------------------------------------------


class Networks:
    """A diffusion network and a guide, and how often each is called."""

    def __init__(self, preset: Preset) -> None:
        torch.manual_seed(0)
        self.setting = Setting(preset, 3)
        self.diffusion, self.guide = (
            networks.new_diffusion(preset),
            networks.new_guide(preset, "resnet"),
        )
        nn.init.normal_(self.diffusion.get_parameter("out.2.weight"), std=0.5)
        self.calls = {"diffusion": 0, "guide": 0}
        self.diffusion.register_forward_hook(lambda *_: self._count("diffusion"))
        self.guide.register_forward_hook(lambda *_: self._count("guide"))

    def _count(self, name: str) -> None:
        self.calls[name] += 1

    def taken(self) -> dict[str, int]:
        """The calls since this was last asked."""
        found, self.calls = self.calls, dict.fromkeys(self.calls, 0)
        return found

    def score(self) -> plain.Score:
        total = self.setting.preset.diffusion.timesteps
        return plain.class_score([self.guide], self.setting.classes, total)

    def ours(self, guidance: Guidance) -> Tensor:
        preset = self.setting.preset
        schedule = networks.ddim_schedule(preset)
        denoiser = Denoiser(self.diffusion, schedule, preset.diffusion.variance)
        *_, last = ours.states(self.setting, denoiser, guidance)
        return last.x

    def plainly(self, score: plain.Score | None, of_x0: bool = False) -> Tensor:
        preset = self.setting.preset
        diffusion = plain.GaussianDiffusion(networks.ddim_schedule(preset))
        noise = initial_noise(self.setting.seeds, preset.dataset.shape)
        *_, last = diffusion.ddim_loop(self.diffusion, score, of_x0, noise)
        return last

    def by_diffusers(self, score: plain.Score | None) -> Tensor:
        pipe = pipeline.new_pipeline(self.setting.preset, self.diffusion, score)
        return pipeline.draw(pipe, self.setting.seeds) * 2 - 1


@pytest.fixture
def both(smoke: Preset) -> Networks:
    return Networks(smoke)


def test_the_peers_draw_the_same_images_by_as_many_calls(both: Networks) -> None:
    unguided, _ = both.ours(NoGuidance()), both.taken()
    objective = class_log_probability(both.setting.classes)
    mine, calls = both.ours(NoisyInputGuidance(both.guide.at, objective, SCALE)), both.taken()
    assert calls == {"diffusion": 25, "guide": 25}
    assert (mine - unguided).abs().max() > 0.1  # guidance has something to say
    torch.testing.assert_close(both.plainly(both.score()), mine, rtol=0, atol=1e-4)
    assert both.taken() == calls
    found = both.by_diffusers(both.score())
    torch.testing.assert_close(found, mine.clamp(-1, 1), rtol=0, atol=1e-4)
    assert both.taken() == calls


def test_the_peers_draw_the_same_images_without_guidance(both: Networks) -> None:
    mine = both.ours(NoGuidance())
    torch.testing.assert_close(both.plainly(None), mine, rtol=0, atol=1e-4)
    torch.testing.assert_close(both.by_diffusers(None), mine.clamp(-1, 1), rtol=0, atol=1e-4)


def test_the_plain_loop_draws_the_same_images_by_the_x0_gradient(both: Networks) -> None:
    objective = class_log_probability(both.setting.classes)
    mine = both.ours(X0Gradient(both.guide.at, objective, SCALE))
    torch.testing.assert_close(both.plainly(both.score(), of_x0=True), mine, rtol=0, atol=1e-4)
