"""A finished little preset that tests share, and ways to run the command line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pytest
import torch
import yaml

from ppap import config as presets
from ppap.cli import run
from ppap.config import Config

if TYPE_CHECKING:
    from tests.repository import Repository

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "tests" / "smoke.yaml"
DIGITS = ROOT / "config" / "digits.yaml"

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests side by side (pytest-xdist): those that share what takes long to build share a process.

    First, because pytest-xdist reads the groups in this hook, too. The finished repository takes longest, so it comes first.
    """
    items.sort(key=lambda item: "finished" not in item.fixturenames)
    for item in items:
        shared = "finished" if "finished" in item.fixturenames else item.path.name
        item.add_marker(pytest.mark.xdist_group(shared))


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


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def ppap(*arguments: object, cwd: Path | None = None, check: bool = True) -> Done:
    """Run the command line as a user does, but without the seconds a new process takes to start."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch("sys.argv", ["ppap", *map(str, arguments)]),
        mock.patch.dict("os.environ", {"COLUMNS": "200"}),
    ):
        code = run()
    if check and code:
        raise AssertionError(f"ppap {arguments} failed:\n{err.getvalue()}")
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which `dvc repro` has built the smoke preset from nothing to its tables."""
    from tests.repository import Repository

    repository = Repository.create(tmp_path_factory.mktemp("finished") / "ppap")
    repository.run("dvc", "repro")
    repository.commit("built")
    return repository
