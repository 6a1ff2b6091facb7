"""Benchmarks: they run, and print a row for each thing they measure."""

import subprocess
import sys

from tests.conftest import ROOT, SMOKE


def test_the_full_size_benchmark_measures_every_kind_of_work() -> None:
    kinds = ("forward", "guided", "x0_gradient", "training")
    command = [
        sys.executable,
        "benchmarks/scale.py",
        "--preset",
        SMOKE,
        "--batch",
        "2",
        "--repeats",
        "1",
    ]
    done = subprocess.run(
        [*command, "--precision", "float32", "--work", *kinds],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(kinds)]
    assert [row[0] for row in rows] == list(kinds)
    assert all(float(number) >= 0 for row in rows for number in row[3:])


def test_the_benchmark_of_switching_names_its_peer() -> None:
    command = [sys.executable, "benchmarks/switching.py", "--model", "resnet18", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "merging at every switch",
        "first time in memory",
        "exchanged",
    ]
    assert float(rows[0][2]) == 1 and all(float(row[1]) >= 0 for row in rows)
