"""A finished little preset that tests share, and ways to run the command line."""

from __future__ import annotations

import contextlib
import fcntl
import io
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import hypothesis
import pytest
import torch
import yaml

from ppap.cli.app import run
from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs

if TYPE_CHECKING:
    from tests.recorder import Read
    from tests.repository import Repository

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "tests" / "smoke.yaml"
SMOKE_TASKS = ROOT / "tests" / "smoke_tasks.yaml"
SMOKE_LATENTS = ROOT / "tests" / "smoke_latents.yaml"
DIGITS, IMAGENET, CIFAR10 = (ROOT / "config" / f"{name}.yaml" for name in ("digits", "imagenet256", "cifar10"))

torch.set_num_threads(1)
# No test depends on the clock, on chance or on an earlier run.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests side by side (pytest-xdist, a file at a time): what takes longest comes first.

    The other file that needs the finished repository comes last, when that has been built.
    """
    places = {"test_dvc.py": 0, "test_growth.py": 0, "test_workflow.py": 2}
    items.sort(key=lambda item: places.get(item.path.name, 1))


def forget_modules(where: Path) -> None:
    """Forget modules that presets below a folder brought: another test's may have the same names."""
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(where):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def forgetting(tmp_path: Path) -> Iterator[None]:
    yield
    forget_modules(tmp_path)


@pytest.fixture(scope="session")
def smoke() -> Preset:
    return presets.load(SMOKE)


@pytest.fixture
def preset_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a copy of a preset with some keys changed."""

    def write(base: Path = SMOKE, name: str = "preset.yaml", **changes: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(changed(yaml.safe_load(base.read_text()), **changes)))
        return path

    return write


def changed(plain: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change keys of a preset: `guides__vit__model` is its key guides.vit.model."""
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = plain
        for parent in parents:
            section = section[parent]
        section[last] = value
    return plain


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


def refused(*arguments: object, cwd: Path) -> str:
    """The one line of a command that is refused in a folder; it leaves results there as they were."""
    before = contents(cwd / "results")
    done = ppap(*arguments, cwd=cwd, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ppap: ")]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert contents(cwd / "results") == before
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], object]], Path]:
    """Give the folder of a name, filled once however many processes run tests. Tests leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def once(name: str, fill: Callable[[Path], object]) -> Path:
        shared = base / name
        shared.mkdir(exist_ok=True)
        with (shared / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / "done").exists():
                fill(shared / "ppap")
                (shared / "done").touch()
        return shared / "ppap"

    return once


@pytest.fixture(scope="session")
def built(once: Callable[..., Path]) -> Path:
    """A repository in which `dvc repro` has built the smoke preset; tests have copies of it, file times kept."""
    from tests.repository import Repository

    def build(where: Path) -> None:
        repository = Repository.create(where)
        repository.run("dvc", "repro")
        repository.commit("built")

    return once("built", build)


@pytest.fixture(scope="session")
def built_tasks(once: Callable[..., Path]) -> Path:
    """A folder in which every job of the preset smoke_tasks has run."""
    return once("built_tasks", partial(run_all, presets.load(SMOKE_TASKS)))


@pytest.fixture(scope="session")
def built_latents(once: Callable[..., Path]) -> Path:
    """A folder in which every job of the preset smoke_latents has run."""
    return once("built_latents", partial(run_all, presets.load(SMOKE_LATENTS)))


def run_all(preset: Preset, where: Path) -> None:
    """Run every job of a preset, and keep what each read."""
    from tests.recorder import run_jobs

    layout = Layout(preset, where / "results", where / "scratch")
    reads = run_jobs(layout, all_jobs(layout))
    (where / "reads.pickle").write_bytes(pickle.dumps(reads))


def reads_of(where: Path) -> list[Read]:
    return pickle.loads((where / "reads.pickle").read_bytes())


@pytest.fixture(scope="session")
def finished(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy for all tests of a process, which leave it as they find it."""
    from tests.repository import Repository

    copy = tmp_path_factory.mktemp("finished") / "ppap"
    return Repository(Path(shutil.copytree(built, copy, symlinks=True)))


@pytest.fixture
def untouched(built: Path, tmp_path: Path) -> Repository:
    """A copy that no other test has."""
    from tests.repository import Repository

    return Repository(Path(shutil.copytree(built, tmp_path / "untouched", symlinks=True)))
