"""A clone of the project, and `snakemake --profile slurm` in it, for the tests under a real Slurm."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests.conftest import SMOKE
from tests.repository import copy_project
from tests.slurm.cluster import Cluster, missing

RESULTS = Path("results", "smoke")
T = TypeVar("T")

slurm_only = [
    pytest.mark.slurm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing()), reason=f"this machine has no Slurm: {', '.join(missing())} not found"),
]


class Snakemake:
    """`snakemake --profile slurm` at work in a clone; only the first look at jobs comes sooner than it says."""

    def __init__(self, cluster: Cluster, where: Path, *arguments: str, path: Path | None = None) -> None:
        command = [sys.executable, "-m", "snakemake", "--profile", "slurm"]
        command += ["--config", "preset=smoke"]
        command += ["--slurm-init-seconds-before-status-checks", "2", *arguments]
        self.output = where / "snakemake.out"
        with self.output.open("w") as out:
            self.process = subprocess.Popen(command, cwd=where, env=environment(cluster, path), stdout=out, stderr=out)

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def wait_for(self, what: Callable[[], T]) -> T:
        """What this gives, as soon as it is true; AssertionError if Snakemake ends before."""

        def unless_ended() -> T:
            ended = self.process.poll() is not None
            found = what()
            assert found or not ended, self.printed[-5000:]
            return found

        return wait_for(unless_ended)

    def wait_to_say(self, text: str) -> None:
        self.wait_for(lambda: text in self.printed)

    def finish(self) -> str:
        """Wait until it has built everything; what it printed."""
        self.process.wait()
        assert self.process.returncode == 0, self.printed[-5000:]
        return self.printed


def environment(cluster: Cluster, path: Path | None = None) -> dict[str, str]:
    """A user's shell, the project's environment active; programs in `path` come first."""
    own = [*([path] if path else []), Path(sys.executable).parent, cluster.environment["PATH"]]
    return cluster.environment | {"PATH": ":".join(map(str, own)), "OMP_NUM_THREADS": "1"}


def clone_to(where: Path) -> Path:
    """What a fresh clone holds, and a preset of one guide that asks for a GPU where there is one."""
    copy_project(where)
    preset = yaml.safe_load(SMOKE.read_text())
    preset["runtime"]["device"], preset["supervised"] = "auto", False
    preset["guides"] = {"resnet": preset["guides"]["resnet"]}
    preset["methods"] = {name: preset["methods"][name] for name in ("none", "naive", "ppap_5")}
    preset["sampling"]["seeds"] = [1]
    rows = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": list(preset["methods"])}
    preset["tables"] = {"main": [rows]}
    (where / "config" / "smoke.yaml").write_text(yaml.safe_dump(preset))
    return where


def change(where: Path, section: str, **values: object) -> None:
    """Change keys of a section ("guides.resnet.experts") of the clone's preset."""
    path = where / "config" / "smoke.yaml"
    preset = yaml.safe_load(path.read_text())
    found: Any = preset
    for key in section.split("."):
        found = found.setdefault(key, {})
    found.update(values)
    path.write_text(yaml.safe_dump(preset))


def wait_for(what: Callable[[], T], seconds: int = 180) -> T:
    """What this gives, as soon as it is true."""
    ends = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < ends, f"waited {seconds} s in vain"
        time.sleep(0.2)
    return found
