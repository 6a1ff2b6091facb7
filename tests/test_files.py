"""Files and endings: what the file system refuses, what is read and written, what a command prints at its end."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ppap.cli import app as cli
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.weights import read_weights
from tests.conftest import ROOT, SMOKE, contents, ppap, refused
from tests.terminal import shown

WRITERS: dict[str, Callable[[Path], None]] = {
    "tensors": lambda path: files.write_tensors(path, {"a": torch.zeros(5000)}),
    "array": lambda path: files.write_array(path, np.zeros(5000)),
    "arrays": lambda path: files.write_arrays(path, a=np.zeros(5000)),
    "text": lambda path: files.write_text(path, "a" * 20_000),
    "json": lambda path: files.write_json(path, ["a" * 20_000]),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "tensors": files.read_tensors,
    "metadata": files.read_metadata,
    "weights": read_weights,
    "array": files.map_array,
    "arrays": files.read_arrays,
    "json": files.read_json,
    "sha256": files.sha256,
}


# -- what the file system refuses ------------------------------------------------------------------


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    return WRITERS[request.param]


@pytest.mark.parametrize("call", ["mkdir", "touch", "replace"])
def test_each_refusal_is_one_line_with_its_reason(tmp_path: Path, write, monkeypatch, call) -> None:
    path, number = tmp_path / "a" / "b", errno.EACCES
    write(path)
    before = contents(tmp_path)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, refuse)
        with pytest.raises(DataError, match=f"b: cannot be written: {os.strerror(number)}"):
            write(path)
    assert contents(tmp_path) == before


@pytest.fixture
def small_files():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_half_way_leaves_the_old_file(tmp_path: Path, write, small_files) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(DataError, match=r"a: cannot be written: "):
        write(tmp_path / "a")
    assert contents(tmp_path) == {"a": b"old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_step_that_cannot_write_its_result_says_so_before_it_reads_anything(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    for step in (
        ("generate", SMOKE),
        ("label", SMOKE, "resnet"),
        ("sample", SMOKE, "ddim25", "resnet", "naive"),
        ("features", SMOKE, "ddim25", "resnet"),
        ("reference-features", SMOKE),
    ):
        assert "cannot be written: Not a directory" in refused(*step, cwd=tmp_path)


# -- what is written -------------------------------------------------------------------------------


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path, write) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_table_is_written_in_all_formats_or_in_none(tmp_path: Path, small_files) -> None:
    tables = tmp_path / "results" / "smoke" / "tables"
    tables.mkdir(parents=True)
    (tables / "main.csv").write_text("old")
    (tables / "main.json").write_text("old")
    assert "tables/main." in refused("table", SMOKE, "main", cwd=tmp_path)


def test_equal_contents_are_equal_files_and_metadata_come_back(tmp_path: Path) -> None:
    about = {name: name.upper() for name in "gracilis"}
    tensors = {"a": torch.arange(3), "tied": torch.arange(3)}
    tensors["also"] = tensors["tied"]
    for name in ("one", "two"):
        files.write_tensors(tmp_path / name, tensors, dict(sorted(about.items(), key=hash)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert files.read_metadata(tmp_path / "one") == about
    assert files.read_tensors(tmp_path / "one")["also"].tolist() == [0, 1, 2]


def test_a_file_of_version_02_is_read_without_its_seal(tmp_path: Path) -> None:
    about = {"ppap": json.dumps({"model": "resnet", "seal": "0123456789abcdef"})}
    save_file({"a": torch.zeros(2)}, tmp_path / "a", about)
    assert files.read_metadata(tmp_path / "a") == {"model": "resnet"}
    assert files.read_tensors(tmp_path / "a")["a"].tolist() == [0, 0]


def test_dvc_takes_up_no_file_that_is_being_written(tmp_path: Path) -> None:
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter

    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvcignore").write_text((ROOT / ".dvcignore").read_text())

    def write(draft: Path) -> None:
        draft.write_text("")
        ignore = DvcIgnoreFilter(localfs, str(tmp_path))
        assert list(ignore.find(localfs, str(tmp_path / "results"))) == []

    files.write_all({tmp_path / "results" / "a": write})
    ignore = DvcIgnoreFilter(localfs, str(tmp_path))
    assert list(ignore.find(localfs, str(tmp_path / "results"))) == [str(tmp_path / "results" / "a")]


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_only_a_file_that_is_not_there_is_called_so(tmp_path: Path, read, monkeypatch) -> None:
    (tmp_path / "folder").mkdir()
    for name, reason in (("nothing", "no such file"), ("folder", "cannot be read: Is a directory")):
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            read(tmp_path / name)


@pytest.mark.parametrize("text", [b"[1]", b"\xff\xfe{"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a").write_bytes(text)
    with pytest.raises(DataError, match="a: truncated or not in the expected format"):
        files.read_json(tmp_path / "a")


# -- how a command ends ----------------------------------------------------------------------------


SLEEPING = """
import time
from ppap.cli import app as cli
def forever():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
cli.app = forever
cli.main()
"""


def test_a_signal_unwinds_and_is_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "cleaned up\n")
    assert err == "ppap: stopped by SIGTERM\n"


def ending(error: BaseException, monkeypatch) -> tuple[int, str]:
    """Exit code and standard error of a command that raises."""

    def app() -> None:
        cli.Started.step = "sample"
        raise error

    monkeypatch.setattr(cli, "app", app)
    done = ppap("sample", check=False)
    return done.returncode, done.stderr


def test_what_nobody_foresaw_has_its_traceback(monkeypatch) -> None:
    code, text = ending(ZeroDivisionError("of mine"), monkeypatch)
    assert code == 1 and text.startswith("Traceback (most recent call last)")
    assert text.endswith("ZeroDivisionError: of mine\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory_says_what_to_lower(monkeypatch, error) -> None:
    code, line = ending(error, monkeypatch)
    assert code == 2 and len(line.splitlines()) == 1
    assert line.startswith("ppap: sample: not enough memory; a smaller batch_size takes less (")


def test_an_error_is_not_glued_to_a_progress_bar(tmp_path: Path) -> None:
    code = """
import sys
from ppap.cli import app as cli
from ppap.utils.errors import DataError
from ppap.utils.progress import Bar
def app():
    for _ in Bar(range(3), "steps"):
        raise DataError("too bad")
cli.app = app
cli.main()
"""
    ended, text = shown([sys.executable, "-c", code], tmp_path, os.environ)
    assert ended == 2 and text.rpartition("\r\n")[0].rpartition("\r")[2] == "ppap: too bad"


def test_letters_that_the_terminal_lacks_are_no_failure() -> None:
    code = "from ppap.cli import app as cli; cli.app = lambda: print(chr(0x2193)); cli.main()"
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=ascii_only, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\\u2193\n")
