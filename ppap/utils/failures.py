"""The end of a command that fails: one line on standard error, an exit code, and a log for what nobody foresaw."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from ppap.utils.errors import ModelError, PPAPError, UserCodeError

FAULT, REFUSED = 1, 2  # exit codes: a fault of ppap's, and what its user can put right
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_NO_MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory"),
    *("ALLOC_FAILED", "DefaultCPUAllocator"),
)
_SMALLER = {
    "pretrain": "its `train.batch_size`",
    "generate": "clean_images.batch_size",
    "label": "clean_images.batch_size",
    "train-expert": "`experts.batch_size` of its guide",
    "sample": "sampling.batch_size",
    "features": "sampling.batch_size",
}


def report(error: Exception, step: str, scratch: Path) -> int:
    """Say what ended a step, in one line on standard error; the exit code.

    The traceback of an exception that nobody foresaw, or of a user's own code, goes to a file in
    scratch/crashes, or in a temporary folder if that cannot be written.
    """
    line, code = _described(error, step, scratch)
    say(line)
    return code


def say(line: str) -> None:
    """Print `ppap: ...`, one line on standard error, below any progress bar."""
    with contextlib.suppress(OSError, PPAPError):  # nobody can be told that nobody can be told
        _close_bars()
        print(f"ppap: {_one_line(line)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def ending_the_process(step: str, scratch: Path = Path("scratch")) -> Iterator[None]:
    """End the process as the command line would, where others would print a traceback.

    For code that Snakemake imports: it gives any exception a traceback and exit code 1.
    """
    try:
        yield
    except Exception as error:
        code = report(error, step, scratch)
        sys.stdout.flush()
        os._exit(code)


def _described(error: Exception, step: str, scratch: Path) -> tuple[str, int]:
    if isinstance(error, ModelError | UserCodeError) and error.__cause__ is not None:
        return f"{error} (its traceback is in {_keep(error, step, scratch)})", REFUSED
    if isinstance(error, PPAPError):
        return str(error), REFUSED
    where = f"{step}: " if step else ""
    if _is_out_of_memory(error):
        advice = f"; lower {_SMALLER[step]}" if step in _SMALLER else ""
        return f"{where}not enough memory{advice} ({_short(error)})", REFUSED
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _REFUSALS):
        named = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return f"{where}{named}{error.strerror}", REFUSED
    log = _keep(error, step, scratch)
    return f"{where}{_short(error)} (a fault of ppap's; the traceback is in {log})", FAULT


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the machine's memory or the GPU's is spent; torch says so in RuntimeErrors of many texts."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _short(error: Exception) -> str:
    text = _one_line(str(error))
    text = f"{text[:300]}..." if len(text) > 300 else text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _keep(error: Exception, step: str, scratch: Path) -> Path | str:
    """Write an exception's traceback to a file of its own."""
    text = "\n".join(
        [
            f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(sys.argv)}",
            f"Python {platform.python_version()}, {platform.platform()}",
            "".join(traceback.format_exception(error)),
        ]
    )
    name = f"{step or 'ppap'}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (scratch / "crashes", Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            return folder / name
    return "no file, as none can be written"


def _close_bars() -> None:
    """Have progress bars leave the line that they are on."""
    tqdm = sys.modules.get("tqdm")
    for bar in list(getattr(tqdm and tqdm.tqdm, "_instances", ())):
        bar.close()
