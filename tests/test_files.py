"""Files, folders and endings: what the file system refuses, what kills leave, what a command prints at its end."""

import errno
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
from tqdm import tqdm

from ppap.cli import app as cli
from ppap.utils import failures, files
from ppap.utils.errors import DataError, ModelError
from ppap.utils.weights import read_weights
from tests.conftest import SMOKE, ppap

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
    "mapped tensors": files.map_tensors,
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
        with pytest.raises(DataError, match=r"a: cannot be written: .*models is not a folder"):
            write(path)


def test_a_folder_in_a_files_place_is_named(tmp_path: Path, write) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="a: cannot be written: it is a folder"):
        write(tmp_path / "a")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_path_too_long_is_refused(tmp_path: Path, write) -> None:
    with pytest.raises(DataError, match="cannot be written: File name too long"):
        write(tmp_path / ("n" * 300))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "open", "replace"])
def test_each_refusal_is_one_line_with_its_reason(
    tmp_path: Path, write, monkeypatch, number, call
) -> None:
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
    with pytest.raises(DataError, match=r"a: cannot be written: .*(too large|disk is full)"):
        write(tmp_path / "a")
    assert contents(tmp_path) == {str(tmp_path / "a"): b"old"}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_no_permission_is_one_line_when_read_and_when_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{}")
    (tmp_path / "a").chmod(0o600)
    child = """
import os, sys
from pathlib import Path
from ppap.storage import files
from ppap.utils.errors import DataError
path = Path(sys.argv[1])
os.chdir(path.parent)
os.setgid(65534); os.setuid(65534)
for call in (lambda: files.read_json(Path("a")), lambda: files.write_text(Path("b/c"), "")):
    try: call()
    except DataError as error: print(error)
"""
    done = in_a_child(child, tmp_path / "a")
    assert done.stdout.splitlines() == [
        "a: cannot be read: Permission denied",
        "b/c: cannot be written: Permission denied",
    ], done.stderr


def test_check_writable_finds_what_a_write_would_and_leaves_nothing(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "a")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "a").write_text("")
    with pytest.raises(DataError, match="new/a is not a folder"):
        files.check_writable(tmp_path / "new" / "a" / "b")


def test_a_step_that_cannot_write_its_result_says_so_before_it_reads_anything(
    tmp_path: Path,
) -> None:
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
        assert "cannot be written: results is not a folder" in done.stderr


# -- what is written -------------------------------------------------------------------------------


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path, write) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


TWO = {"a": b"new a", "b": b"new b"}


def write_two(folder: Path) -> None:
    files.write_texts({folder / name: text.decode() for name, text in TWO.items()})


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("there", [("a", "b"), ("b",), ()])
def test_files_written_together_are_the_old_ones_if_a_rename_fails(
    tmp_path: Path, monkeypatch, there, links
) -> None:
    for name in there:
        (tmp_path / name).write_text(f"old {name}")
    before, replace = contents(tmp_path), Path.replace

    def refuse_b(self: Path, target: Path) -> Path:
        if target.name == "b" and self.name != ".old":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(self, target)

    def no_links(*arguments: Any, **options: Any) -> None:
        raise FileNotFoundError if not Path(arguments[0]).exists() else PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse_b)
        if not links:
            patched.setattr(os, "link", no_links)
        with pytest.raises(DataError, match="b: cannot be written: Input/output error"):
            write_two(tmp_path)
    assert contents(tmp_path) == before
    write_two(tmp_path)
    assert contents(tmp_path) == {str(tmp_path / name): text for name, text in TWO.items()}
    assert len(list(tmp_path.iterdir())) == 2


def test_files_written_together_are_the_old_ones_if_one_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old a")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b: cannot be written: it is a folder"):
        write_two(tmp_path)
    assert contents(tmp_path) == {str(tmp_path / "a"): b"old a"}


def test_a_table_is_written_in_all_formats_or_in_none(tmp_path: Path, small_files) -> None:
    tables = tmp_path / "results" / "smoke" / "tables"
    tables.mkdir(parents=True)
    (tables / "main.csv").write_text("old")
    (tables / "main.json").write_text("old")
    before = contents(tmp_path)
    done = ppap("table", SMOKE, "main", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "tables/main." in done.stderr
    assert contents(tmp_path) == before


# -- what kills leave ------------------------------------------------------------------------------

SLOW = """
import signal, sys, time
from pathlib import Path
from ppap.cli import app as cli
from ppap.storage import files
for number in (signal.SIGHUP, signal.SIGINT):  # which the tests may have been started to ignore
    signal.signal(number, signal.SIG_DFL)
def forever():
    with files.whole(Path(sys.argv[1])) as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)
cli.app = forever
cli.main()
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """A process that has written half of a file, and goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(path)], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unwinds_and_is_one_line(tmp_path: Path, number: signal.Signals) -> None:
    process = writer(tmp_path / "a")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, f"ppap: stopped by {number.name}\n")
    assert list(tmp_path.iterdir()) == []


def test_what_sigkill_leaves_is_removed_by_the_next_writer_of_the_file_only(
    tmp_path: Path,
) -> None:
    living, killed = writer(tmp_path / "a"), writer(tmp_path / "a")
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.glob(".a.*.part"))) == 2
    files.write_text(tmp_path / "b", "another file")
    assert len(list(tmp_path.glob(".a.*.part"))) == 2
    files.write_text(tmp_path / "a", "whole")
    assert len(list(tmp_path.glob(".a.*.part"))) == 1  # the living writer's
    assert (tmp_path / "a").read_text() == "whole"
    living.terminate()
    living.communicate(timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_dvc_takes_up_no_file_that_is_being_written(tmp_path: Path) -> None:
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter

    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    with files.whole(tmp_path / "results" / "a") as temporary:
        temporary.write_text("")
        ignore = DvcIgnoreFilter(localfs, str(tmp_path))
        assert list(ignore.find(localfs, str(tmp_path / "results"))) == []
    assert list(ignore.find(localfs, str(tmp_path / "results"))) == [
        str(tmp_path / "results" / "a")
    ]


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


@pytest.mark.parametrize(
    "text", [b"[1]", b"null", b"\xff\xfe{", b"[" * 100_000, b'{"a": ' * 100_000, b"", b"{"]
)
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a").write_bytes(text)
    with pytest.raises(DataError, match="a: truncated or not in the expected format"):
        files.read_json(tmp_path / "a")


# -- how a command ends ----------------------------------------------------------------------------


def ending(error: BaseException, monkeypatch, tmp_path: Path) -> tuple[int, str]:
    """Exit code and standard error of a command that raises."""

    def app() -> None:
        cli.Started.step, cli.Started.scratch = "sample", tmp_path / "scratch"
        raise error

    monkeypatch.setattr(cli, "app", app)
    done = ppap("sample", check=False)
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("text", ["", "of two\n\n  lines\r\nor more", "x" * 10_000])
def test_what_nobody_foresaw_is_one_line_and_a_log(tmp_path: Path, monkeypatch, text) -> None:
    code, line = ending(ZeroDivisionError(text), monkeypatch, tmp_path)
    (log,) = (tmp_path / "scratch" / "crashes").iterdir()
    assert code == 1
    assert line.startswith("ppap: sample: ZeroDivisionError") and len(line) < 700
    assert f"(a fault of ppap's; the traceback is in {log})" in line
    assert "Traceback (most recent call last)" in log.read_text(encoding="utf-8")


def test_the_log_lies_elsewhere_if_scratch_cannot_be_written(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "scratch").write_text("a file")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "other"))
    assert "other/sample-" in ending(KeyError("a"), monkeypatch, tmp_path)[1]
    assert len(list((tmp_path / "other").iterdir())) == 1


def test_a_users_own_traceback_is_kept(tmp_path: Path, monkeypatch) -> None:
    error = ModelError("model 'user:mine.net': KeyError: 'a'")
    error.__cause__ = KeyError("a")
    code, line = ending(error, monkeypatch, tmp_path)
    (log,) = (tmp_path / "scratch" / "crashes").iterdir()
    assert code == 2 and line.endswith(f"KeyError: 'a' (its traceback is in {log})\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory_says_what_to_lower(tmp_path: Path, monkeypatch, error) -> None:
    code, line = ending(error, monkeypatch, tmp_path)
    assert code == 2
    assert line.startswith("ppap: sample: not enough memory; lower sampling.batch_size (")


def test_memory_that_torch_cannot_have_is_too_little_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failures._is_out_of_memory(raised.value)


def test_a_file_that_nobody_guarded_is_named(tmp_path: Path, monkeypatch) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "results/smoke")
    assert ending(error, monkeypatch, tmp_path) == (
        2,
        "ppap: sample: results/smoke: Permission denied\n",
    )


def test_an_error_is_not_glued_to_a_progress_bar(tmp_path: Path, monkeypatch) -> None:
    def app() -> None:
        for _ in tqdm(range(3)):
            raise DataError("too bad")

    monkeypatch.setattr(cli, "app", app)
    assert "\nppap: too bad\n" in ppap("sample", check=False).stderr


def test_output_that_nobody_reads_is_no_failure(tmp_path: Path) -> None:
    for redirection in ("| head -c 1 >&2", ">&-", ">&- 2>&- <&-"):
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
    assert done.stderr == "ppap: standard output: cannot be written: No space left on device\n"


def test_letters_that_the_terminal_lacks_are_no_failure(tmp_path: Path, preset_file) -> None:
    names = [f"čtyři {i}" for i in range(10)]
    preset = preset_file(dataset__class_names=names)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ("table", preset, "main")
    done = in_a_child(COMMAND, *arguments, cwd=tmp_path, env=ascii_only)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "results/smoke/tables/main.md").read_text(encoding="utf-8")
    assert "FID ↓" in text
    done = in_a_child(COMMAND, "sample", preset, "čtyři", "a", "b", env=ascii_only)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    code = "from ppap.cli import app as cli; cli.app = lambda: print(chr(0x2193)); cli.main()"
    done = in_a_child(code, env=ascii_only)
    assert (done.returncode, done.stdout) == (0, "\\u2193\n")


def test_a_library_warns_in_one_line() -> None:
    code = "import warnings; from ppap.cli import app as cli; cli.app = lambda: warnings.warn('a\\nb'); cli.main()"
    assert in_a_child(code).stderr == "UserWarning: a b\n"


def test_code_that_snakemake_imports_ends_as_a_command_does(tmp_path: Path) -> None:
    code = """
from ppap.process import failures
with failures.ending_the_process("snakemake"):
    {}["a"]
"""
    done = in_a_child(code, cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("ppap: snakemake: KeyError: 'a' (a fault of ppap's")


def test_a_part_of_a_file_is_read_by_its_names_prefix(tmp_path: Path) -> None:
    tensors = {name: torch.arange(3) + i for i, name in enumerate(("a.x", "a.y", "ab.x", "b"))}
    files.write_tensors(tmp_path / "f.safetensors", tensors)
    found = files.read_tensors(tmp_path / "f.safetensors", "a.")
    assert {name: value.tolist() for name, value in found.items()} == {
        "x": [0, 1, 2], "y": [1, 2, 3],
    }  # fmt: skip
    assert files.read_tensors(tmp_path / "f.safetensors", "c.") == {}
