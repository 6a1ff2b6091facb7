"""A git and DVC repository with this project's files in it, as a fresh clone holds them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests import warm
from tests.conftest import ROOT, SMOKE

Result = subprocess.CompletedProcess[str]


class Repository:
    """A folder to run git, dvc, snakemake and make in, as a user does."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.results = where / "results" / "smoke"

    @classmethod
    def create(cls, where: Path) -> Repository:
        """This project's files and the smoke preset, committed."""
        copy_project(where)
        (where / "params.yaml").write_text("preset: smoke\n")
        repository = cls(where)
        repository.run("git", "init", "-q", "-b", "main")
        repository.commit("start")
        return repository

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)

    def run(self, *command: str, check: bool = True) -> Result:
        """Run a program of this environment (see tests/warm.py); AssertionError with what it printed if it fails."""
        variables = os.environ | {"DVC_NO_ANALYTICS": "1"} | warm.environment()
        done = subprocess.run(command, cwd=self.where, capture_output=True, text=True, env=variables)
        assert not (check and done.returncode), f"{command}:\n{done.stdout}\n{done.stderr}"[-4000:]
        return done

    def snakemake(self, *arguments: str, preset: str = "smoke", check: bool = True) -> Result:
        command = ["snakemake", "--cores", "2", *arguments, "--config", f"preset={preset}"]
        return self.run(*command, check=check)


def copy_project(where: Path) -> None:
    """What git would commit of this project, without results, and the smoke preset among the presets."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("results/") and name != "dvc.lock":
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, where / name)
    shutil.copy(SMOKE, where / "config" / "smoke.yaml")


def snakemake(where: Path, *arguments: str, preset: str | Path) -> Result:
    """Run this project's workflow with another folder to work in."""
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(where)]
    return subprocess.run(
        [*command, "--cores", "2", *arguments, "--config", f"preset={preset}"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | warm.environment(),
    )  # fmt: skip
