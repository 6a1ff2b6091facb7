"""Benchmarks: they run, print a row for each thing they measure, and their peers do the same work as ours."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import counted, networks, ours, pipeline, plain
from benchmarks.gpu import rows as gpu_rows
from benchmarks.setting import SCALE, Setting
from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import Guidance, NoGuidance, NoisyInputGuidance, X0Gradient
from ppap.guides.tasks.classification import class_log_probability
from ppap.utils.seeds import initial_noise
from tests.conftest import ROOT, SMOKE

CPU = torch.device("cpu")


def run(module: str, *arguments: object) -> list[str]:
    """The lines that a benchmark prints."""
    name, out = f"benchmarks.{module}", io.StringIO()
    with mock.patch("sys.argv", [name, *map(str, arguments)]), contextlib.redirect_stdout(out):
        runpy.run_module(name, run_name="__main__")
    torch.set_num_threads(1)
    return out.getvalue().splitlines()


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
    assert [row[0] for row in rows] == ["merging at every switch", "first time in memory", "exchanged"]
    assert float(rows[0][2]) == 1 and all(float(row[1]) >= 0 for row in rows)


def test_ours_stands_beside_both_peers() -> None:
    printed = run("sampling", "--preset", SMOKE, "--batch", 2, "--laps", 1, "--options", "bfloat16")
    matches = [re.fullmatch(r"(\S.*?) +([\d. ]+)", line) for line in printed]
    rows = {row[1]: list(map(float, row[2].split())) for row in matches if row}
    for said in ("no guidance", "guided by resnet"):
        theirs, plainly = rows[f"diffusers' DDIMPipeline, {said}"], rows[f"plain PyTorch loop, {said}"]  # fmt: skip
        mine = rows[f"ours, {said}"]
        assert theirs[1] == plainly[2] == 1
        assert mine[1:] == [pytest.approx(mine[0] / peer[0], abs=0.05) for peer in (theirs, plainly)]  # fmt: skip
    assert "ours, guided by resnet, bfloat16" in rows
    assert "ours, an expert of resnet" in rows


# -- the peers -------------------------------------------------------------------------------------


class Networks:
    """A diffusion network and a guide, and how often each is called."""

    def __init__(self, preset: Preset) -> None:
        torch.manual_seed(0)
        self.setting = Setting(preset, 3)
        self.diffusion, self.guide = (networks.new_diffusion(preset), networks.new_guide(preset, "resnet"))
        nn.init.normal_(self.diffusion.get_parameter("out.2.weight"), std=0.5)
        self.calls = {"diffusion": 0, "guide": 0}
        self.diffusion.register_forward_hook(lambda *_: self._count("diffusion"))
        self.guide.register_forward_hook(lambda *_: self._count("guide"))

    def _count(self, name: str) -> None:
        self.calls[name] += 1

    def taken(self) -> dict[str, int]:
        """The calls since this was last asked."""
        calls, self.calls = self.calls, dict.fromkeys(self.calls, 0)
        return calls

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
    theirs = both.by_diffusers(both.score())
    torch.testing.assert_close(theirs, mine.clamp(-1, 1), rtol=0, atol=1e-4)
    assert both.taken() == calls


def test_the_plain_loop_draws_the_same_images_by_the_x0_gradient(both: Networks) -> None:
    objective = class_log_probability(both.setting.classes)
    mine = both.ours(X0Gradient(both.guide.at, objective, SCALE))
    torch.testing.assert_close(both.plainly(both.score(), of_x0=True), mine, rtol=0, atol=1e-4)


# -- on a GPU, tried in small ----------------------------------------------------------------------

IMAGE = "torch,torchvision,timm,pydantic,pooch"
"""What is to be installed where there is a GPU."""


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.exhaustive
def test_all_of_a_gpu_is_measured_in_small_with_few_libraries(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    command = [sys.executable, "-m", "tests.bare", "benchmarks.gpu", IMAGE, "--small", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("missing wheels: none\n")
    head, _, *table = out.read_text().splitlines()
    assert "TFLOP/s in bfloat16" in head
    columns, rows = cells(table[0]), [cells(line) for line in table[2:] if line]
    assert {len(row) for row in rows} == {len(columns)}
    small = gpu_rows.Sizes(4, 8, 2, 2)
    wanted = gpu_rows.rows(presets.load(SMOKE), ["bfloat16, channels_last", "bfloat16", "float32"], small)
    assert [row[:3] for row in rows] == [[w.title, w.options, str(w.batch)] for w in wanted]
    assert all(float(row[columns.index("images/s")]) > 0 for row in rows)
    assert all(float(row[-1]) > 0 for row in rows), done.stderr


def test_the_share_of_the_matrix_rate_counts_what_is_computed(both: Networks) -> None:
    setting, counter = both.setting, FlopCounterMode(display=False)

    def inner(x: Tensor) -> Tensor:
        return x.clone()  # torch's counter follows no gradient to a leaf that a module is given

    score, preset = both.score(), setting.preset
    diffusion = plain.GaussianDiffusion(networks.ddim_schedule(preset))
    x, i = torch.randn(3, *preset.dataset.shape), torch.tensor([5] * 3)
    for method in ("off_the_shelf", "x0_gradient"):
        with counter:
            diffusion.ddim_sample(
                lambda x, t: both.diffusion(inner(x), t),
                lambda x, t: score(inner(x), t),
                method == "x0_gradient", x, i,
            )  # fmt: skip
        assert counter.get_total_flops() == 3 * counted.of_drawing(preset, method, "resnet")
