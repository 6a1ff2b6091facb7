"""`sampling.batch_size: auto`: what fits and is fastest is found, and changes no image."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ppap.diffusion import batch_sizes
from ppap.diffusion.batch_sizes import Fitting, fastest
from tests.conftest import ROOT, SMOKE, ppap
from tests.repository import Repository

CPU = torch.device("cpu")
PLENTY = Fitting(mem_mb=100_000)


class Machine:
    """A step that takes so long for a batch; `tried` are the sizes of its batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, overhead: float, each: float) -> None:
        self.now, self.overhead, self.each = 0.0, overhead, each
        self.tried: list[int] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self, size: int) -> None:
        self.tried.append(size)
        self.now += self.overhead + self.each * size


def test_a_machine_that_has_an_overhead_gets_large_batches(monkeypatch) -> None:
    machine = Machine(monkeypatch, overhead=0.1, each=0.0001)
    assert fastest(machine, 500, PLENTY, CPU) == 500
    assert machine.tried == [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 500) for _ in range(2)]


def test_where_larger_batches_are_no_faster_they_are_not_tried(monkeypatch) -> None:
    machine = Machine(monkeypatch, overhead=0.0, each=0.01)
    assert fastest(machine, 500, PLENTY, CPU) == 1
    assert machine.tried == [1, 1, 2, 2, 4, 4]


def test_a_step_that_takes_long_is_not_repeated(monkeypatch) -> None:
    machine = Machine(monkeypatch, overhead=2.0, each=0.0)
    assert fastest(machine, 2, PLENTY, CPU) == 2
    assert machine.tried == [1, 2]


def test_no_batch_is_larger_than_what_is_to_be_drawn(monkeypatch) -> None:
    assert fastest(Machine(monkeypatch, 1.0, 0.0), 1, PLENTY, CPU) == 1
    assert fastest(Machine(monkeypatch, 1.0, 0.0), 3, PLENTY, CPU) == 3


def test_a_gpu_whose_memory_is_spent_gets_the_last_size_that_fitted(monkeypatch) -> None:
    machine = Machine(monkeypatch, overhead=0.1, each=0.0)

    def step(size: int) -> None:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        machine(size)

    assert fastest(step, 500, PLENTY, CPU) == 16
    with pytest.raises(torch.OutOfMemoryError):
        fastest(lambda size: step(size + 16), 500, PLENTY, CPU)


class Card:
    """A GPU in whose memory networks lie, as torch tells of it; each image of a step takes so much more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: int, networks: int) -> None:
        self.total, self.networks, self.peak = total, networks, networks
        for name, value in {
            "empty_cache": lambda: None,
            "synchronize": lambda device: None,
            "memory_allocated": lambda device: networks,
            "mem_get_info": lambda device: (total - networks, total),
            "reset_peak_memory_stats": lambda device: setattr(self, "peak", networks),
            "max_memory_reserved": lambda device: self.peak,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def take(self, size: int, each: int) -> None:
        self.peak = max(self.peak, self.networks + size * each)
        assert self.peak <= self.total, "a size was tried that cannot fit"


@pytest.mark.parametrize(("each", "fits"), [(1, 32), (4, 8), (63, 1)])
def test_on_a_gpu_each_method_has_the_batch_that_its_memory_allows(
    monkeypatch, each: int, fits: int
) -> None:
    """The x0-gradient goes through the diffusion network, and holds several times as much of it."""
    card = Card(monkeypatch, total=80, networks=10)
    machine = Machine(monkeypatch, overhead=0.1, each=0.0)

    def step(size: int) -> None:
        machine(size)
        card.take(size, each)

    assert fastest(step, 500, PLENTY, torch.device("cuda")) == fits


MEASURED = """
import re, sys, torch
from ppap.diffusion.batch_sizes import Fitting, fastest
held = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024 // 10**6
tried = []
def step(size):
    tried.append(size)
    torch.ones(size, 25_000_000).sum()  # 100 MB an image
    return None
import time
clock = iter(range(10**6))
time.perf_counter = lambda: next(clock)  # any size takes one second: larger batches are always faster
found = fastest(step, 64, Fitting(held + 50 + 100 * int(sys.argv[1])), torch.device("cpu"))
print(found, max(tried))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process holds is read from /proc")
@pytest.mark.parametrize("images", [4, 9])
def test_a_batch_stays_within_the_memory_that_jobs_ask_for(images: int) -> None:
    """In a process of its own, which holds 100 MB an image: the next size is not tried if it would not fit."""
    command = [sys.executable, "-c", MEASURED, str(images)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found, most = map(int, done.stdout.split())
    assert found == most and images / 2 < found <= images


@pytest.fixture
def auto(tmp_path: Path) -> Path:
    """The smoke preset under another name, with batches of whatever size fits."""
    plain = yaml.safe_load(SMOKE.read_text())
    plain["preset"] = "auto"
    plain["sampling"]["batch_size"] = "auto"
    path = tmp_path / "auto.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


def linked(finished: Repository) -> None:
    """Have the preset of this name take the finished results for its own."""
    link = finished.where / "results" / "auto"
    if not link.exists():
        link.symlink_to("smoke")


def test_images_are_the_same_whatever_size_is_found(finished, auto: Path, monkeypatch) -> None:
    """Per method: with each kind of guidance, and for sizes that divide a shard and that do not."""
    linked(finished)
    runs = [("ddim25", "resnet", m) for m in ("naive", "x0_gradient", "ppap_5")]
    for run in [("ddim25", "unguided", "none"), *runs]:
        path = finished.results / "samples" / Path(*run) / "0000.npy"
        before = np.load(path)
        for size in (7, len(before)):
            monkeypatch.setattr(batch_sizes, "_doubled", lambda most, size=size: iter([1, size]))
            monkeypatch.setattr(batch_sizes, "_seconds", lambda step, n, meter: 1.0)
            path.unlink()
            ppap("sample", auto, *run, cwd=finished.where)
            again = np.load(path)
            assert np.abs(again.astype(int) - before.astype(int)).max() <= 1


def test_on_its_own_the_workflow_finds_a_size(finished, auto: Path) -> None:
    linked(finished)
    path = finished.results / "samples" / "ddim25" / "resnet" / "ppap_5" / "0000.npy"
    before = np.load(path)
    path.unlink()
    ppap("sample", auto, "ddim25", "resnet", "ppap_5", cwd=finished.where)
    assert np.abs(np.load(path).astype(int) - before.astype(int)).max() <= 1
    ppap("features", auto, "ddim25", "resnet", cwd=finished.where)


def test_a_word_that_is_no_size_is_refused(tmp_path: Path, auto: Path) -> None:
    auto.write_text(auto.read_text().replace("batch_size: auto", "batch_size: most"))
    done = ppap("config", "check", auto, check=False)
    assert done.returncode == 2 and "sampling.batch_size" in done.stderr
