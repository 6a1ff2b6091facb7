"""A finished little preset that tests share, and ways to run the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ppap import config as presets
from ppap.config import Config

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "tests" / "smoke.yaml"
DIGITS = ROOT / "config" / "digits.yaml"

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smoke() -> Config:
    return presets.load(SMOKE)


@pytest.fixture
def preset_file(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the smoke preset with some keys (dotted) changed."""

    def write(base: Path = SMOKE, name: str = "preset.yaml", **changes: Any) -> Path:
        data = yaml.safe_load(base.read_text())
        for key, value in changes.items():
            *parents, last = key.split("__")
            section = data
            for parent in parents:
                section = section[parent]
            section[last] = value
        path = tmp_path / name
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def ppap(
    *arguments: object, cwd: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    command = [sys.executable, "-c", "from ppap.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"ppap {arguments} failed:\n{done.stderr}")
    return done
