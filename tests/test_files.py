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
from tests.conftest import SMOKE, ppap
from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent
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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def in_a_child(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, env=environment, **options,
    )  # fmt: skip


COMMAND = "from ppap.cli import main; main()"


# -- what the file system refuses ------------------------------------------------------------------


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    return WRITERS[request.param]


def test_a_file_in_a_folders_place_is_named(tmp_path: Path, write) -> None:
    (tmp_path / "models").write_text("a file")
    for path in (tmp_path / "models" / "a", tmp_path / "models" / "deeper" / "a"):
        with pytest.raises(DataError, match=r"a: cannot be written: .*(exists|Not a directory)"):
            write(path)


def test_a_folder_in_a_files_place_is_named(tmp_path: Path, write) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="a: cannot be written: Is a directory"):
        write(tmp_path / "a")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "touch", "replace"])
def test_each_refusal_is_one_line_with_its_reason(tmp_path: Path, write, monkeypatch, number, call) -> None:
    path = tmp_path / "a" / "b"
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
    assert contents(tmp_path) == {str(tmp_path / "a"): b"old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_check_writable_finds_what_a_write_would_and_leaves_nothing(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "a")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "a").write_text("")
    with pytest.raises(DataError, match="new/a/b: cannot be written: "):
        files.check_writable(tmp_path / "new" / "a" / "b")


def test_a_step_that_cannot_write_its_result_says_so_before_it_reads_anything(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    for step in (
        ("generate", SMOKE),
        ("label", SMOKE, "resnet"),
        ("sample", SMOKE, "ddim25", "resnet", "naive"),
        ("features", SMOKE, "ddim25", "resnet"),
        ("reference-features", SMOKE),
    ):
        done = ppap(*step, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert "cannot be written: Not a directory" in done.stderr


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
    before = contents(tmp_path)
    done = ppap("table", SMOKE, "main", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "tables/main." in done.stderr
    assert contents(tmp_path) == before


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


def test_thousands_of_mapped_files_keep_none_open(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    files.write_array(tmp_path / "a.npy", array)
    files.write_tensors(tmp_path / "a.safetensors", {"a": torch.from_numpy(array)})
    before = len(list(Path("/proc/self/fd").iterdir()))
    mapped = [files.map_array(tmp_path / "a.npy") for _ in range(100)]
    mapped += [files.read_tensors(tmp_path / "a.safetensors")["a"].numpy() for _ in range(100)]
    assert all(np.array_equal(each, array) for each in mapped)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


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
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, reason in (
        ("nothing", "no such file"),
        ("folder", "cannot be read: Is a directory"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
    ):
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            read(tmp_path / name)


@pytest.mark.parametrize("text", [b"[1]", b"\xff\xfe{", b"[" * 100_000, b""])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a").write_bytes(text)
    with pytest.raises(DataError, match="a: truncated or not in the expected format"):
        files.read_json(tmp_path / "a")


# -- how a command ends ----------------------------------------------------------------------------


SLEEPING = """
import signal, time
from ppap.cli import app as cli
for number in (signal.SIGHUP, signal.SIGINT):  # which the tests may have been started to ignore
    signal.signal(number, signal.SIG_DFL)
def forever():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
cli.app = forever
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unwinds_and_is_one_line(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "cleaned up\n")
    assert err == f"ppap: stopped by {number.name}\n"


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
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory_says_what_to_lower(monkeypatch, error) -> None:
    code, line = ending(error, monkeypatch)
    assert code == 2 and len(line.splitlines()) == 1
    assert line.startswith("ppap: sample: not enough memory; a smaller batch_size takes less (")


def test_a_file_that_nobody_guarded_is_named(monkeypatch) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "results/smoke")
    line = "ppap: sample: results/smoke: Permission denied\n"
    assert ending(error, monkeypatch) == (2, line)


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
    with Terminal([sys.executable, "-c", code], tmp_path, os.environ) as terminal:
        assert terminal.ended() == 2
    assert terminal.text.rpartition("\r\n")[0].rpartition("\r")[2] == "ppap: too bad"


def test_output_that_nobody_reads_is_no_failure(tmp_path: Path) -> None:
    for redirection in ("| head -c 1 >&2", ">&-"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c",
             f'"{sys.executable}" -c "{COMMAND}" config schema {redirection}'],
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert (done.returncode, done.stderr.strip("{")) == (0, ""), redirection


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "config", "show", str(SMOKE)],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "ppap: config: No space left on device\n"


def test_letters_that_the_terminal_lacks_are_no_failure(tmp_path: Path, preset_file) -> None:
    names = [f"čtyři {i}" for i in range(10)]
    preset = preset_file(dataset__class_names=names)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ("table", preset, "main")
    done = in_a_child(COMMAND, *arguments, cwd=tmp_path, env=ascii_only)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "results/smoke/tables/main.md").read_text(encoding="utf-8")
    assert "FID ↓" in text
    code = "from ppap.cli import app as cli; cli.app = lambda: print(chr(0x2193)); cli.main()"
    done = in_a_child(code, env=ascii_only)
    assert (done.returncode, done.stdout) == (0, "\\u2193\n")
